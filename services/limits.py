"""A limit on request bodies, before anything parses them."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.problems import problem


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than `max_bytes`, announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body has more than {self._max_bytes} bytes"
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise HTTPException(413, detail)
            return message

        announced = Request(scope).headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await problem(413, "body-too-large", "Body too large", detail)(scope, receive, send)
        else:
            await self._app(scope, counted, send)
