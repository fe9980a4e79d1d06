"""Scripted roles, tools and a gateway between them, for contract tests."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from gateway.app import create_app
from gateway.protocol import Http
from gateway.settings import Settings
from tests.fakes import Script, serve, tool_app
from umi.roles import Role

LOCAL = {"tool_allow": ("127.0.0.1",)}
"""What the guard of outgoing requests must let through here: the test's own servers."""


class World:
    """Scripted roles, tools and a gateway between them."""

    def __init__(self, tmp_path: Path, stack: ExitStack, database: str | None = None) -> None:
        self.script = Script()
        self.called: list[str] = []
        self._stack = stack
        self.roles = stack.enter_context(serve(self.script.app()))
        self.tools = stack.enter_context(serve(tool_app(self.called)))
        self.database = database or f"sqlite:///{tmp_path}/umi.db"
        self.gateway = self.start()
        self.client = stack.enter_context(httpx.Client(base_url=self.gateway, timeout=20, trust_env=False))
        self.reset()

    def reset(self) -> None:
        """As it was at the beginning, but for the runs in the store."""
        self.script.reset()
        self.called.clear()
        self.client.base_url = self.gateway
        added = self.client.post("/v1/toolsets", json={"name": "test", "url": f"{self.tools}/openapi.json"})
        assert added.status_code == 201, added.text

    def settings(self, **changes: Any) -> Settings:
        urls = {f"{role}_url": self.roles for role in Role}
        return Settings(
            **{
                "database": self.database,
                "tool_seconds": 0.5,
                "drain_seconds": 0,
                "role_patience_seconds": 0.5,
                "max_offered": 64,
                **LOCAL,
                **urls,
                **changes,
            }
        )

    def start(self, **changes: Any) -> str:
        """One more gateway on the same database."""
        return self._stack.enter_context(serve(create_app(self.settings(**changes)), http=Http))

    def ask(self, **fields: Any) -> httpx.Response:
        return self.client.post("/v1/queries", json={"query": "What is 2 + 3?", **fields})

    def run(self, **fields: Any) -> dict[str, Any]:
        response = self.ask(**fields)
        assert response.status_code == 200, response.text
        return response.json()

    def observation(self, **fields: Any) -> str:
        """What the planner was told in the first step."""
        return str(self.run(**fields)["steps"][0]["observation"])
