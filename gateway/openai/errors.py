"""Problems in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, on the paths of its APIs only.

Nothing here decides what an error is: the rest of the gateway answers with a problem, and this turns it over. So
limits, accounts and whatever comes later need not know of a second shape.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import MEDIA_TYPE, RunProblem, respond
from gateway.views import RunView
from umi.openapi import SAFE
from umi.trajectory import JsonObject

PATHS = ("/v1/models", "/v1/chat/completions", "/v1/responses")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    ("context-overflow", None): "context_length_exceeded",
    ("unauthorized", None): "invalid_api_key",
    ("too-many", None): "rate_limit_exceeded",
    ("not-found", "model"): "model_not_found",
    ("not-found", "previous_response_id"): "previous_response_not_found",
}
"""Codes that clients know, by the problem's type and field; other codes are the problem's type."""


class ErrorView(BaseModel):
    """An error. `umi` has the run's id and the role that failed, where there is one."""

    message: str
    type: str
    param: str | None
    code: str | None
    umi: dict[str, str] | None = None


class ErrorReply(BaseModel):
    """The body of every error."""

    error: ErrorView


REPLIES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "Something in the request is wrong or not supported; `param` names it"},
    401: {"model": ErrorReply, "description": "No API key, or one that is unknown or revoked"},
    403: {"model": ErrorReply, "description": "The API key lacks a scope"},
    404: {"model": ErrorReply, "description": "There is no such model or response"},
    413: {"model": ErrorReply, "description": "The body is too large"},
    429: {"model": ErrorReply, "description": "A limit of the API key is reached"},
    503: {"model": ErrorReply, "description": "A role service failed; the message names it, the run is stored"},
}


def status_of(status: int) -> int:
    """OpenAI says 400 of whatever is wrong in a request."""
    return 400 if status == 422 else status


def error_of(problem: JsonObject) -> JsonObject:
    """The error that says what `problem` says."""
    status, kind, param = int(problem["status"]), str(problem["type"]), problem.get("field")
    if param == "query":  # it was folded here; OpenAI's bodies have no such parameter
        param = None
    code = _CODES.get((kind, param), kind.replace("-", "_"))
    error: JsonObject = {
        "message": problem["detail"],
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": param,
        "code": None if kind == "http" else code,
    }
    if run := {name: problem[name] for name in ("run_id", "role") if problem.get(name)}:
        error["umi"] = run
    return {"error": error}


def failure(view: RunView) -> Response | None:
    """The response to a request whose run has failed; None when it has not.

    OpenAI's clients repeat what answered 503. A run that sent a request with consequences must not be repeated unasked.
    """
    if view.problem is None and (view.outcome is not None or view.asked_a_person):
        return None
    unstored = "The run's end could not be stored; the gateway's log says why."
    problem = view.problem or RunProblem(
        type="internal", title="Internal error", status=500, detail=unstored, run_id=view.run_id
    )
    unsafe = any(step.request is not None and step.request.method not in SAFE for step in view.steps)
    return respond(problem, {"x-should-retry": "false"} if unsafe else None)


class OpenAIErrors:
    """ASGI middleware: a problem that leaves by one of `PATHS` leaves in OpenAI's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a problem back until it is whole; let everything else through as it comes."""
        if scope["type"] != "http" or not is_ours(scope["path"]):
            return await self.app(scope, receive, send)
        held: list[Message] = []

        async def reshape(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_problem(message["headers"]):
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body", False):
                    body = b"".join(part.get("body", b"") for part in held[1:])
                    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in held[0]["headers"]}
                    await reshaped(body, held[0]["status"], headers)(scope, receive, send)

        await self.app(scope, receive, reshape)


def reshaped(body: bytes, status: int, headers: dict[str, str]) -> JSONResponse:
    """The response that says what the problem `body` says, with those of its `headers` that are not about the body."""
    kept = {name: value for name, value in headers.items() if name not in {"content-type", "content-length"}}
    return JSONResponse(error_of(json.loads(body)), status_of(status), kept)


def is_ours(path: str) -> bool:
    """Whether `path` belongs to OpenAI's APIs."""
    return any(path == ours or path.startswith(f"{ours}/") for ours in PATHS)


def install(app: FastAPI) -> None:
    """Reshape what `app` and its present middleware answer, and its answer to an unexpected error, made outside."""
    app.add_middleware(OpenAIErrors)
    other = cast(Callable[[Request, Exception], Awaitable[Response]], app.exception_handlers[Exception])

    async def bug(request: Request, error: Exception) -> Response:
        response = await other(request, error)
        if not is_ours(request.url.path):
            return response
        return reshaped(bytes(response.body), response.status_code, dict(response.headers))

    app.add_exception_handler(Exception, bug)


def _is_problem(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and value.startswith(MEDIA_TYPE.encode()) for name, value in headers)
