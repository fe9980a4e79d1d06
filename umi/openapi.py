"""OpenAPI 3 operations as tools: a document becomes `Operation`s, an operation and arguments become an HTTP request.

Both directions are pure functions; fetching documents and sending requests happen elsewhere.
"""

import re
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from umi.errors import BadDocument, CallRejected
from umi.trajectory import Frozen, JsonObject, ToolSpec

METHODS = ("get", "put", "post", "delete", "patch", "head")
_MAX_REF_DEPTH = 12


class Place(StrEnum):
    """Where an argument travels in the request."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    BODY = "body"
    WHOLE_BODY = "whole_body"


class Operation(Frozen):
    """One HTTP operation that a model may call."""

    tool: ToolSpec
    method: str
    base_url: str
    path: str
    places: dict[str, tuple[Place, str]]
    """Argument name to where it travels and under which name."""
    search_text: str = ""
    """All words of the operation, for retrieval; longer than what a prompt shows."""

    @property
    def is_safe(self) -> bool:
        """Whether the request may be repeated without changing anything (RFC 9110, 9.2.1)."""
        return self.method in {"GET", "HEAD"}


class HttpRequest(Frozen):
    """A request that is ready to be sent. `json_body` is None when there is no body."""

    method: str
    url: str
    headers: dict[str, str]
    json_body: Any = None


def read_document(document: Any, location: str | None = None, base_url: str | None = None) -> list[Operation]:
    """The operations of an OpenAPI 3 document, in its own order.

    `location` is the URL that the document was fetched from: a relative server URL starts there. `base_url` overrides
    the document's servers. Raises BadDocument when the document is not OpenAPI 3, has no operations, or has no absolute
    address.
    """
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise BadDocument('not an OpenAPI 3 document: the field "openapi": "3.…" is missing', "document")
    root: JsonObject = document
    paths: Any = root.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise BadDocument("the document has no paths", "document.paths")
    base = base_url or _base_url(root, location)
    names: set[str] = set()
    operations: list[Operation] = []
    for path, item in paths.items():
        shared: Any = _resolve(root, item)
        if not isinstance(shared, dict):
            raise BadDocument(f"{path} is not an object", f"document.paths.{path}")
        for method in METHODS:
            if isinstance(operation := shared.get(method), dict):
                try:
                    operations.append(_operation(root, base, str(path), method, shared, operation, names))
                except (AttributeError, KeyError, TypeError, ValueError) as error:  # something is not of its own type
                    what = f"{method.upper()} {path}: {type(error).__name__}: {error}"
                    raise BadDocument(f"an operation cannot be understood: {what}", f"document.paths.{path}") from error
    if not operations:
        raise BadDocument("the document has no operations", "document.paths")
    return operations


def build_request(operation: Operation, arguments: JsonObject) -> HttpRequest:
    """The request that calls `operation` with arguments that its schema has already admitted.

    A path value is encoded as one segment and can never leave it. Raises CallRejected for a segment that is empty or
    made of dots only, and for a header value with control characters.
    """
    path, query, headers, body = operation.path, [], {}, {}
    whole: Any = None
    for name, value in arguments.items():
        place, target = operation.places[name]
        match place:
            case Place.PATH:
                text = _scalar(value)
                if not text.strip("."):
                    raise CallRejected(f"argument {name!r} is not usable in a path: {text!r}")
                path = path.replace("{" + target + "}", quote(text, safe=""))
            case Place.QUERY:
                values = value if isinstance(value, list) else [value]
                query.extend((target, _scalar(item)) for item in values)
            case Place.HEADER:
                text = _scalar(value)
                if any(ord(char) < 32 or ord(char) > 126 for char in text):
                    raise CallRejected(f"argument {name!r} has characters that a header cannot carry")
                headers[target] = text
            case Place.BODY:
                body[target] = value
            case Place.WHOLE_BODY:
                whole = value
    if missing := re.findall(r"{([^}]*)}", path):
        raise CallRejected(f"the path needs a value for {missing[0]!r}")
    url = operation.base_url.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
    has_fields = any(place is Place.BODY for place, _ in operation.places.values())
    payload = body if has_fields else whole
    return HttpRequest(method=operation.method, url=url, headers=headers, json_body=payload)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _base_url(root: JsonObject, location: str | None) -> str:
    servers = root.get("servers") or [{"url": "/"}]
    url = str(servers[0].get("url", "/")) if isinstance(servers, list) and isinstance(servers[0], dict) else "/"
    joined = urljoin(location or "", url)
    if urlsplit(joined).scheme not in {"http", "https"} or not urlsplit(joined).netloc:
        raise BadDocument(f"no absolute server address ({url!r}); pass base_url", "base_url")
    return joined


def _operation(
    root: JsonObject, base: str, path: str, method: str, shared: JsonObject, operation: JsonObject, names: set[str]
) -> Operation:
    properties: JsonObject = {}
    required: list[str] = []
    places: dict[str, tuple[Place, str]] = {}

    def add(name: str, place: Place, schema: JsonObject, is_required: bool, target: str | None = None) -> None:
        unique = name if name not in properties else f"{name}_{place.value}"
        properties[unique], places[unique] = schema, (place, target or name)
        if is_required:
            required.append(unique)

    listed = [_resolve(root, node) for node in [*shared.get("parameters", []), *operation.get("parameters", [])]]
    for parameter in {(node["name"], node["in"]): node for node in listed}.values():  # an operation overrides its path
        if parameter["in"] not in {"path", "query", "header"}:
            continue
        schema = _schema(root, parameter.get("schema", {"type": "string"}))
        if text := parameter.get("description"):
            schema = {**schema, "description": text}
        place = Place(parameter["in"])
        add(parameter["name"], place, schema, bool(parameter.get("required")) or place is Place.PATH)
    if body := _resolve(root, operation.get("requestBody") or {}):
        content = body.get("content", {})
        if "application/json" not in content:
            raise BadDocument(f"{method.upper()} {path}: only JSON bodies are supported", f"document.paths.{path}")
        schema = _schema(root, content["application/json"].get("schema", {}))
        if schema.get("type") == "object" and schema.get("properties"):
            for name, field in schema["properties"].items():
                add(name, Place.BODY, field, name in schema.get("required", ()))
        else:
            add("body", Place.WHOLE_BODY, schema, bool(body.get("required")))
    name = _name(operation.get("operationId") or f"{method}_{path}", names)
    summary, description = operation.get("summary") or "", operation.get("description") or ""
    return Operation(
        tool=ToolSpec(
            name=name,
            description=summary or description,
            parameters={
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            },
        ),
        method=method.upper(),
        base_url=base,
        path=path,
        places=places,
        search_text=" ".join([name.replace("_", " "), summary, description, path, *properties]),
    )


def _name(wanted: str, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_")[-64:] or "operation"
    name, number = base, 2
    while name in taken:
        name, number = f"{base[:60]}_{number}", number + 1
    taken.add(name)
    return name


def _resolve(root: JsonObject, node: Any) -> Any:
    """Follow local `$ref`s of one node."""
    for _ in range(_MAX_REF_DEPTH):
        if not isinstance(node, dict) or "$ref" not in node:
            return node
        reference = str(node["$ref"])
        if not reference.startswith("#/"):
            raise BadDocument(f"only references inside the document are followed, not {reference!r}", "document")
        node = root
        for part in reference[2:].split("/"):
            node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
        if node is None:
            raise BadDocument(f"the reference {reference!r} leads nowhere", "document")
    raise BadDocument("a reference refers to itself", "document")


_KEEP = (
    "type enum const format description minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength pattern "
    "minItems maxItems required additionalProperties default nullable"
).split()


def _schema(root: JsonObject, node: Any, above: tuple[int, ...] = ()) -> JsonObject:
    """A self-contained JSON Schema: references inlined, documentation-only keywords dropped.

    `above` are the nodes on the way here: where a schema contains itself, anything is admitted.
    """
    node = _resolve(root, node)
    if not isinstance(node, dict) or len(above) > _MAX_REF_DEPTH or id(node) in above:
        return {}
    above = (*above, id(node))
    schema: JsonObject = {key: node[key] for key in _KEEP if key in node}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(flag := schema.get(exclusive), bool):  # OpenAPI 3.0 marks the bound, JSON Schema is one itself
            schema.pop(exclusive)
            if flag and bound in schema:
                schema[exclusive] = schema.pop(bound)
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if "properties" in node:
        schema["properties"] = {key: _schema(root, value, above) for key, value in node["properties"].items()}
        schema.setdefault("type", "object")
    if "items" in node:
        schema["items"] = _schema(root, node["items"], above)
    options = [_schema(root, option, above) for option in node.get("anyOf") or node.get("oneOf") or ()]
    real = [option for option in options if option.get("type") != "null"]
    if len(real) == 1:
        schema = {**real[0], **schema}  # Optional[X] of a generator: absence says the same as null
    elif real:
        schema["anyOf"] = real
    for part in (_schema(root, part, above) for part in node.get("allOf") or ()):
        schema = _merge(part, schema)
    return schema


def _merge(left: JsonObject, right: JsonObject) -> JsonObject:
    merged = {**left, **right}
    if "properties" in left and "properties" in right:
        merged["properties"] = {**left["properties"], **right["properties"]}
    if "required" in left and "required" in right:
        merged["required"] = [*left["required"], *right["required"]]
    return merged
