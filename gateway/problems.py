"""Errors as application/problem+json (RFC 9457), and which error gets which status."""

import math
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from umi.errors import (
    BadCheckpoint,
    BadDocument,
    BadInput,
    ContextOverflow,
    NoRegistry,
    Outdated,
    RoleFailure,
    RoleOutputInvalid,
    RoleOverloaded,
    RoleUnavailable,
    UmiError,
    UnknownTool,
    Unreachable,
)
from umi.wire import Problem

MEDIA_TYPE = "application/problem+json"


class RunProblem(Problem):
    """A problem that ended a run; `role` names the service that failed."""

    run_id: str | None = None
    role: str | None = None
    retry_after: float | None = None


class NotFound(BadInput):
    """Nothing has that name or id."""


class Conflict(BadInput):
    """It is in a state in which this cannot be done."""


class NotStored(UmiError):
    """An event of a run was not stored. The run goes on elsewhere, or will be gone on with from its log."""


class Unauthorized(UmiError):
    """A key is needed, and there is none or not a valid one."""

    headers: ClassVar[dict[str, str]] = {"www-authenticate": "Bearer"}


class MissingScope(UmiError):
    """The key is valid, but lacks the scope that this needs."""


class TooMany(UmiError):
    """A limit of the key is reached; come back after `retry_after` seconds."""

    def __init__(self, message: str, limit: int, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.headers = rate_limit(limit, 0, retry_after)


def rate_limit(limit: int, remaining: int, reset: float) -> dict[str, str]:
    """Headers that tell of a limit: what it is, what is left of it, and seconds until there is more."""
    told = {"limit": limit, "remaining": remaining, "reset": math.ceil(reset)}
    return {f"ratelimit-{name}": str(value) for name, value in told.items()}


# The first match counts, so special errors stand before general ones.
_STATUS: tuple[tuple[type[UmiError], int, str, str], ...] = (
    (NotFound, 404, "not-found", "Not found"),
    (Outdated, 412, "outdated", "Changed by somebody else meanwhile"),
    (NoRegistry, 503, "no-registry", "The registry of weights cannot be used"),
    (BadCheckpoint, 422, "bad-checkpoint", "Unusable weights"),
    (Conflict, 409, "conflict", "Conflict"),
    (UnknownTool, 422, "unknown-tool", "Unknown tool"),
    (BadDocument, 422, "bad-document", "Unusable toolset document"),
    (ContextOverflow, 422, "context-overflow", "The prompt does not fit the model"),
    (BadInput, 422, "bad-input", "Bad input"),
    (Unauthorized, 401, "unauthorized", "A key is needed"),
    (MissingScope, 403, "forbidden", "The key does not allow this"),
    (TooMany, 429, "too-many", "A limit is reached"),
    (NotStored, 503, "not-stored", "The run could not be stored"),
    (Unreachable, 502, "unreachable", "The document could not be fetched"),
    (RoleOverloaded, 503, "role-overloaded", "A role is overloaded"),
    (RoleOutputInvalid, 503, "role-output-invalid", "A role wrote nonsense"),
    (RoleUnavailable, 503, "role-unavailable", "A role is unavailable"),
    (RoleFailure, 503, "role-failure", "A role failed"),
    (UmiError, 500, "error", "Error"),
)

TYPES: dict[str, str] = {kind: f"{title} ({status})" for _, status, kind, title in _STATUS} | {
    "too-large": "Body too large (413)",
    "unreadable": "Unreadable request (400)",
    "http": "No such path, or not with this method (404, 405)",
    "internal": "An unexpected error (500); the gateway's log has it",
}
"""Every `type` that a problem of the gateway may have, and what it means."""


def problem_of(error: UmiError, run_id: str | None = None) -> RunProblem:
    """The problem that tells a user of `error`."""
    status, kind, title = next((s, k, t) for cls, s, k, t in _STATUS if isinstance(error, cls))
    return RunProblem(
        type=kind,
        title=title,
        status=status,
        detail=str(error),
        field=getattr(error, "field", None),
        run_id=run_id,
        role=getattr(error, "role", None),
        retry_after=getattr(error, "retry_after", None),
    )


def respond(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response that carries `problem`."""
    content = problem.model_dump(mode="json", exclude_none=True)
    if isinstance(problem, RunProblem) and problem.retry_after is not None:
        headers = {**(headers or {}), "retry-after": str(max(1, math.ceil(problem.retry_after)))}
    return JSONResponse(content, problem.status, media_type=MEDIA_TYPE, headers=headers)


def _invalid(error: RequestValidationError) -> Problem:
    """Every wrong field by name. The input itself is not repeated: it may be a megabyte."""
    errors: list[dict[str, Any]] = []
    for wrong in error.errors():
        if wrong["type"] == "json_invalid":
            errors.append({"field": "body", "message": f"not valid JSON: {wrong.get('ctx', {}).get('error', '')}"})
            continue
        field = ".".join(str(part) for part in wrong["loc"][1:]) or "body"
        errors.append({"field": field, "message": wrong["msg"].removeprefix("Value error, ")})
    first = errors[0]
    detail = f"{first['field']}: {first['message']}"
    return Problem(type="bad-input", title="Bad input", status=422, detail=detail, field=first["field"], errors=errors)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Of all routes of the path; Starlette tells of the first one's only."""
    found = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def install(app: FastAPI) -> None:
    """Let `app` answer every error as a problem."""

    async def umi(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, UmiError)
        return respond(problem_of(error), getattr(error, "headers", None))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return respond(_invalid(error))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = ", ".join(_methods(app, request))
            detail = f"{request.url.path[:200]} does not know {request.method}; it knows {allowed}"
            problem = Problem(type="http", title="Method Not Allowed", status=405, detail=detail)
            return respond(problem, {"allow": allowed})
        if error.status_code == 400:  # FastAPI says so of a body that is not UTF-8, or nested too deeply
            return respond(problem_of(BadInput("body: cannot be read as JSON in UTF-8", "body")))
        title = str(error.detail)
        problem = Problem(type="http", title=title, status=error.status_code, detail=title)
        return respond(problem, dict(error.headers or {}))

    async def bug(_: Request, error: Exception) -> JSONResponse:
        detail = "An unexpected error; the gateway's log has its traceback."
        return respond(Problem(type="internal", title="Internal error", status=500, detail=detail))

    app.add_exception_handler(UmiError, umi)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)
