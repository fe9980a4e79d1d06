"""The OpenAPI document: what FastAPI derives from the routes, and what holds for all of them."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from gateway.problems import MEDIA_TYPE, TYPES, RunProblem
from umi.trajectory import JsonObject

_TEXT = {"type": "string"}
_EVENT: JsonObject = {
    "type": "object",
    "properties": {
        "id": {**_TEXT, "description": "Where to go on from, as Last-Event-ID"},
        "event": _TEXT,
        "data": {**_TEXT, "contentMediaType": "application/json"},
    },
    "required": ["data"],
}
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}}}
"""For a route that may also answer with server-sent events, described as FastAPI does (OpenAPI 3.2, 4.14.1)."""
TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": _TEXT}}}}
_PROBLEM = {"schema": {"$ref": f"#/components/schemas/{RunProblem.__name__}"}}
_COMMON = {
    "404": "There is no such thing, or it is another tenant's",
    "413": "The body is too large",
    "422": "Something in the request is wrong; `field` names it",
}


def install(app: FastAPI) -> None:
    """Let the document of `app` tell of errors as they are answered."""
    derive = app.openapi

    def openapi() -> JsonObject:
        is_new = app.openapi_schema is None
        document = derive()
        if is_new:
            for path, operation in _operations(document):
                _complete(path, operation)
            types: JsonObject = document["components"]["schemas"][RunProblem.__name__]["properties"]["type"]
            told = "\n".join(f"* `{kind}`: {meaning}" for kind, meaning in TYPES.items())
            types |= {"enum": list(TYPES), "description": told}
        return document

    app.openapi = openapi


def _operations(document: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def _complete(path: str, operation: JsonObject) -> None:
    """FastAPI promises its own 422 in application/json, and knows nothing of errors before and behind the routes. It
    also says of parameters that may be left out that they may be null, which cannot be written."""
    for parameter in operation.get("parameters", ()):
        schema: JsonObject = parameter["schema"]
        if kinds := [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]:
            schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    responses: JsonObject = operation["responses"]
    if "openai" in operation["tags"]:  # a 422 leaves as a 400
        if responses.pop("422", None) is not None and "400" not in responses:
            responses["400"] = {**responses["401"], "description": "Something in the request is wrong"}
        return
    if "{" in path:
        responses.setdefault("404", {"description": _COMMON["404"]})
    if "requestBody" in operation:
        responses.setdefault("413", {"description": _COMMON["413"]})
    for status, response in responses.items():
        if status.startswith(("4", "5")) and ("content" in response or status in _COMMON):
            response["content"] = {MEDIA_TYPE: _PROBLEM}
            if status == "422":
                response["description"] = _COMMON["422"]
    operation["responses"] = dict(sorted(responses.items()))
