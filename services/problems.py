"""Errors as `application/problem+json` bodies (RFC 9457) with stable types."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from umi.wire import Problem

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem response; `kind` is the stable type."""
    body = Problem(type=kind, title=title, status=status, detail=detail, **more)
    content = body.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def retry_later(kind: str, title: str, detail: str, seconds: int) -> JSONResponse:
    """A 503 that says when to come back."""
    return problem(503, kind, title, detail, {"Retry-After": str(seconds)})


def bad_body(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's validation errors: 422, naming the first wrong field and listing all."""
    assert isinstance(error, RequestValidationError)
    errors = [{"field": _field(one["loc"]), "message": str(one["msg"])} for one in error.errors()]
    first = errors[0]
    detail = f"{first['field']}: {first['message']}"
    return problem(
        422, "invalid-body", "The body is not what this role reads", detail, field=first["field"], errors=errors
    )


def http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own errors, such as an unknown path."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, "http-error", str(error.detail), f"{request.method} {request.url.path}")


def _field(where: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in where if part != "body") or "body"
