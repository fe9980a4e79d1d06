"""MCP tools as tools: a server's listing becomes `McpOperation`s, an operation and arguments become a `tools/call`.

Pure, as the OpenAPI side is, and with its rules for names, texts and schemas: to a model both are the same.
"""

from typing import Any, Literal

from umi.errors import BadDocument, CallRejected
from umi.openapi.arguments import Arguments, arguments
from umi.openapi.inputs import Body
from umi.openapi.model import Place
from umi.openapi.names import MAX_SEARCH_TEXT, MAX_TOOL_TEXT, Names, shorten
from umi.openapi.references import References
from umi.openapi.report import Losses, OperationReport, Report, Status
from umi.openapi.selection import Budget
from umi.trajectory import Frozen, JsonObject, ToolSpec

METHOD = "tools/call"
_SAY_SOMETHING = ("properties", "additionalProperties", "allOf", "anyOf", "oneOf", "$ref")
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)


class McpOperation(Frozen):
    """One tool of an MCP server. Its hints are what the server says of itself, nothing that anybody has checked."""

    tool: ToolSpec
    name: str
    """As the server calls it."""
    places: dict[str, tuple[Place, str]]
    """Argument name to its name in the call."""
    says_read_only: bool = False
    says_idempotent: bool = False
    search_text: str = ""


class McpRequest(Frozen):
    """A `tools/call` that is ready to be sent to `server`, a URL or a command line."""

    kind: Literal["mcp"] = "mcp"
    server: str
    tool: str
    arguments: JsonObject


class Listed(Frozen):
    """The tools of a listing that can be called, and what became of all."""

    operations: tuple[McpOperation, ...]
    report: Report


def import_listing(tools: Any, budget: Budget = Budget()) -> Listed:
    """What an MCP server's `tools/list` has, all of its pages together. Raises BadDocument when nothing is usable."""
    if not isinstance(tools, list) or not tools:
        raise BadDocument("the server has no tools", "document")
    if len(tools) > budget.operations:
        raise BadDocument(f"the server has more than {budget.operations} tools", "document")
    names = Names()
    operations: list[McpOperation] = []
    reports: list[OperationReport] = []
    for given in tools:
        operation, report = _import(given, names, budget)
        reports.append(report)
        if operation is not None:
            operations.append(operation)
    return Listed(operations=tuple(operations), report=Report(operations=tuple(reports)))


def build_call(operation: McpOperation, given: JsonObject, server: str) -> McpRequest:
    """The call with arguments that the operation's schema has already admitted. Raises CallRejected."""
    fields: JsonObject = {}
    for name, value in given.items():
        place, target = operation.places[name]
        if place is not Place.WHOLE_BODY:
            fields[target] = value
        elif isinstance(value, dict):
            fields = value
        else:
            raise CallRejected("the arguments must be an object")
    return McpRequest(server=server, tool=operation.name, arguments=fields)


def _import(given: Any, names: Names, budget: Budget) -> tuple[McpOperation | None, OperationReport]:
    called = str(given.get("name", ""))[:200] if isinstance(given, dict) else ""
    name: str | None = None
    try:
        if not called or called != given["name"]:
            raise BadDocument("it has no usable name")
        name = names.take(called)
        losses = Losses()
        made = _arguments(given["inputSchema"], budget, losses)
    except (BadDocument, *_MALFORMED) as error:
        known = isinstance(error, BadDocument)
        reason = str(error) if known else f"cannot be understood: {type(error).__name__}: {error}"
        refused = Status.REFUSED
        return None, OperationReport(method=METHOD, path=called, name=name, status=refused, reason=reason[:300])
    hints = given.get("annotations")
    hints = hints if isinstance(hints, dict) else {}
    texts = [_text(given.get("description")), _text(given.get("title")), _text(hints.get("title"))]
    operation = McpOperation(
        tool=ToolSpec(
            name=name,
            description=next(filter(None, (shorten(text, MAX_TOOL_TEXT) for text in texts)), ""),
            parameters=made.schema,
        ),
        name=called,
        places=made.places,
        says_read_only=hints.get("readOnlyHint") is True,
        says_idempotent=hints.get("idempotentHint") is True,
        search_text=" ".join([called.replace("_", " "), *texts, *made.properties]),
    )
    status = Status.WITH_LOSS if losses.texts else Status.IMPORTED
    return operation, OperationReport(method=METHOD, path=called, name=name, status=status, losses=losses.texts)


def _arguments(schema: JsonObject, budget: Budget, losses: Losses) -> Arguments:
    if schema.get("type") != "object":
        raise BadDocument("its arguments are no object")
    # JSON Schema 2020-12 is what OpenAPI 3.1 has for schemas; so marked, it is read by the same rules.
    references = References({**schema, "openapi": "3.1.0"}, max_nodes=budget.nodes)
    is_empty = not any(schema.get(key) for key in _SAY_SOMETHING)
    body = None if is_empty else Body("application/json", references.root, True)
    return arguments(references, (), body, budget, losses)


def _text(given: object) -> str:
    return given[:MAX_SEARCH_TEXT] if isinstance(given, str) else ""
