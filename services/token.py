"""The token that a role service may want to be shown, before anything else of a request is looked at."""

import hmac

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.problems import problem

_OPEN = {"/healthz", "/readyz"}
"""What an orchestrator asks, which has no token."""


class RoleToken:
    """ASGI middleware that answers 401 to whatever does not carry `token` as a bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._wanted = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _path(scope) in _OPEN:
            await self._app(scope, receive, send)
            return
        shown = Request(scope).headers.get("authorization", "").encode("latin-1")
        if hmac.compare_digest(shown, self._wanted):
            await self._app(scope, receive, send)
            return
        detail = "this role service wants the token that UMI_ROLE_TOKEN names"
        refusal = problem(401, "unauthorized", "No valid token", detail, {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


def _path(scope: Scope) -> str:
    """Without what a server in front has mounted the app under."""
    return scope["path"].removeprefix(scope.get("root_path", ""))
