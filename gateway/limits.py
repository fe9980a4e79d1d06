"""The size limit on request bodies, applied before anything is parsed."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import respond
from umi.wire import Problem


class BodyLimit:
    """ASGI middleware: a body of more than `max_bytes` answers 413, whether its length is announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then hand it on in one piece."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return await self.app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.max_bytes:
            return await self._refuse(scope, receive, send)
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_bytes:
                return await self._refuse(scope, receive if more else None, send)
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive | None, send: Send) -> None:
        # A client that is cut off while it still writes may never read the answer: let it finish, within reason.
        drained = 0
        while receive is not None and drained < 8 * self.max_bytes:
            message = await receive()
            drained += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        detail = f"The request body is larger than {self.max_bytes} bytes."
        problem = Problem(type="too-large", title="Body too large", status=413, detail=detail, field="body")
        response = respond(problem, {"connection": "close"})
        await send({"type": "http.response.start", "status": 413, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": bytes(response.body)})
