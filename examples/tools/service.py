"""One way to build a service: answers without nulls, and every failure told in one short sentence."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

_PHRASES = {
    "missing": "{field} is required",
    "int_parsing": "{field} must be a whole number",
    "int_type": "{field} must be a whole number",
    "int_from_float": "{field} must be a whole number",
    "float_parsing": "{field} must be a number",
    "float_type": "{field} must be a number",
    "finite_number": "{field} must be a finite number",
    "string_type": "{field} must be text",
    "list_type": "{field} must be a list",
    "greater_than_equal": "{field} must be at least {ge}",
    "less_than_equal": "{field} must be at most {le}",
    "string_too_short": "{field} must have at least {min_length} characters",
    "string_too_long": "{field} must have at most {max_length} characters",
    "too_short": "{field} must have at least {min_length} items",
    "too_long": "{field} must have at most {max_length} items",
    "enum": "{field} must be {expected}",
    "literal_error": "{field} must be {expected}",
    "value_error": "{field}: {error}",
    "json_invalid": "the body is not valid JSON",
    "extra_forbidden": "{field} is not a known field",
}


class ErrorMessage(BaseModel):
    """What every failing request answers."""

    detail: str


COMMON_ERRORS: dict[int | str, dict[str, object]] = {
    404: {"model": ErrorMessage, "description": "Nothing has that name or id"},
    422: {"model": ErrorMessage, "description": "A value is missing or not usable"},
}
CONFLICT: dict[int | str, dict[str, object]] = {
    409: {"model": ErrorMessage, "description": "Already taken, or the store is full"},
}


def validation_sentence(error: RequestValidationError) -> str:
    """The first validation problem as one sentence a small model can act on."""
    problem = error.errors()[0]
    # The first part is the field; what follows is a position in a list or an internal name of its type.
    location = problem["loc"][1:]
    field = location[0] if location and isinstance(location[0], str) else "body"
    if isinstance(location[-1] if location else None, int) and field != "body":
        field = f"each of {field}"
    phrase = _PHRASES.get(problem["type"])
    if phrase is None:
        return f"{field}: {problem['msg']}"
    sentence = phrase.format(field=field, **problem.get("ctx", {}))
    sentence = sentence.removesuffix(".0")
    return sentence.replace("'", "") if problem["type"] in ("enum", "literal_error") else sentence


async def _answer_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(status_code=422, content={"detail": validation_sentence(error)})


class _WithoutNulls(APIRoute):
    """A route whose answers leave out what is not known."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options | {"response_model_exclude_none": True}))


def new_router() -> APIRouter:
    """A router for the operations of one service."""
    return APIRouter(route_class=_WithoutNulls)


def new_service(title: str, description: str, router: APIRouter) -> FastAPI:
    """A FastAPI app of its own around a router, with the shared error format."""
    app = FastAPI(title=title, description=description, version="1.0.0", responses=COMMON_ERRORS)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.include_router(router)
    return app
