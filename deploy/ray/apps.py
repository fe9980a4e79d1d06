"""UMi's services as Ray Serve applications: what deploy/ray/serve.yaml names as import paths.

A replica holds the very app that `python -m services.planner` or `python -m gateway` serves, with the same settings
from environment and files; Serve's proxies take the place of uvicorn, and its controller that of a supervisor.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx
import ray
from fastapi import FastAPI
from pydantic import ValidationError
from ray import serve
from ray.serve import Application

from gateway import app as gateway_app
from gateway.__main__ import has_keys
from gateway.settings import Settings
from services import app as role_app
from services.caller import CALLER
from services.engine import Engine
from services.launch import environment, source
from services.orphan import watch_children
from services.planner import PLANNER
from services.role import RoleBehaviour
from services.settings import RoleSettings
from services.summarizer import SUMMARIZER
from services.vllm_engine import VllmEngine
from umi import logs
from umi.roles import Role
from umi.settings import FileSettings
from umi.tracing import start as start_tracing
from umi.wire import Replica

T = TypeVar("T", bound=FileSettings)
_BEHAVIOURS: Mapping[Role, RoleBehaviour] = {one.role: one for one in (PLANNER, CALLER, SUMMARIZER)}
_LOOK_SECONDS = 0.5
_TELL_SECONDS = 1.5
"""For all replicas to say what they serve; whoever asks waits 2 s."""


def role(args: dict[str, str]) -> Application:
    """The application of one role: `args` has `role`, which is also the name of application and deployment."""
    return bound(Role(args["role"]), VllmEngine)


def gateway(args: dict[str, str]) -> Application:
    """The application of the gateway, a deployment of the name `gateway`."""
    return GatewayReplica.options(name="gateway").bind()


def bound(role: Role, engine: Callable[[RoleSettings], Engine]) -> Application:
    """A role's application, on engines that `engine` makes."""
    return RoleReplica.options(name=str(role)).bind(role, engine)


@serve.deployment
@serve.ingress()
class RoleReplica:
    """A replica of a role. It is there once its engine can be asked, and ill once that has died."""

    def __init__(self, role: Role, engine: Callable[[RoleSettings], Engine]) -> None:
        self._role, self._engine = role, engine
        self._settings = _settings(RoleSettings)
        self._failures: list[str] = []
        logs.configure(self._settings.log_level, self._settings.log)
        environment(self._settings)
        watch_children()
        start_tracing(f"umi-{role}")

    def __serve_build_asgi_app__(self) -> FastAPI:
        token = self._settings.role_token
        app = role_app.create_app(
            _BEHAVIOURS[self._role],
            self._engine(self._settings),
            source(self._settings),
            self._settings,
            self._failures.append,
        )
        app.get("/v1/replicas")(self.replicas)
        headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._own = _within(app, headers)
        return app

    async def check_health(self) -> None:
        """Returns when the role is ready, for which Serve waits at first. Raises RuntimeError when it never will be."""
        while (await self._own.get("/readyz")).status_code != 200:
            if self._failures:
                raise RuntimeError(f"{self._role}: {self._failures[0]}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def replicas(self) -> dict[str, Replica]:
        """What every replica of this role serves, by its node's address and its id: a request reaches but one."""
        here = serve.get_replica_context()
        handle = serve.get_deployment_handle(here.deployment, here.app_name)
        told = await handle.broadcast("told").results_async(timeout_s=_TELL_SECONDS, return_exceptions=True)
        return dict(self._said(number, one) for number, one in enumerate(told))

    async def told(self) -> tuple[str, dict[str, Any]]:
        """This replica's name and what it serves."""
        name = f"{ray.util.get_node_ip_address()} {serve.get_replica_context().replica_tag}"
        return name, (await self._own.get("/v1/replica")).json()

    def _said(self, number: int, told: tuple[str, dict[str, Any]] | BaseException) -> tuple[str, Replica]:
        if isinstance(told, BaseException):
            return f"replica {number}", Replica(role=self._role, problem=f"cannot be asked: {type(told).__name__}")
        return told[0], Replica.model_validate(told[1])


@serve.deployment
@serve.ingress()
class GatewayReplica:
    """A replica of the gateway; all of them share one database. Without an API key there is none: a proxy listens to
    the whole network."""

    def __init__(self) -> None:
        self._settings = _settings(Settings)
        if not has_keys(self._settings):
            raise RuntimeError(
                "the gateway would serve anybody: make a key with `umi keys create`, or give one as UMI_FIRST_KEY"
            )
        logs.configure(self._settings.log_level, self._settings.log)
        start_tracing("umi-gateway")

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = gateway_app.create_app(self._settings)
        self._own = _within(app)
        return app

    async def check_health(self) -> None:
        """Raises httpx.HTTPStatusError when the app does not answer as one that lives."""
        (await self._own.get("/healthz")).raise_for_status()


def _within(app: FastAPI, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client that asks an app in its own process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica", headers=headers)


def _settings(kind: type[T]) -> T:
    """Raises ValueError in one sentence, in which nothing secret is: Serve shows it to whoever asks for its status."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = "UMI_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ValueError(f"{name}: {first['msg']}") from None
