"""Operations of an OpenAPI document as tools."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from gateway.egress.keys import Key
from gateway.egress.permission import Origin, Permission, origin_of, permission
from gateway.store import ToolsetRow
from gateway.tools import validation
from gateway.tools.catalogue import Sent, Tool, Toolset
from gateway.tools.references import resolver
from umi.errors import BadDocument, BadInput, CallRejected, Forbidden
from umi.openapi import HttpRequest, Imported, Operation, build_request, import_document
from umi.openapi.security import Kind, Scheme, chosen, read_schemes
from umi.trajectory import JsonObject


@dataclass(frozen=True)
class HttpTool(Tool[Operation]):
    """An operation of a document, and where its toolset's requests may go."""

    permission: Permission
    keys: tuple[Key, ...] = ()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.operation.method

    @property
    def path(self) -> str:
        """The path under the toolset's address."""
        return self.operation.path

    @property
    def is_read_only(self) -> bool:
        """Whether calling it changes nothing, by its method (RFC 9110, 9.2.1)."""
        return self.operation.is_safe

    def may_repeat(self, request: Sent) -> bool:
        """Whether the request that was about to be sent changes nothing."""
        return isinstance(request, HttpRequest) and request.is_safe

    def request(self, arguments: JsonObject) -> HttpRequest:
        """The request for a call. Raises CallRejected saying what to fix when the arguments break the schema."""
        self.check(arguments)
        try:
            return build_request(self.operation, arguments)
        except ValueError as error:  # half a surrogate pair in a path or query
            raise CallRejected(f"the arguments cannot be written into a URL: {error}") from error


def read_document(row: ToolsetRow, trusted: Sequence[str] = ()) -> Toolset:
    """The usable tools of a document, and what became of the other operations.

    `trusted` lists what is not public and may be reached all the same, as in `permission`. Raises BadDocument if no
    operation is usable, BadInput when an entry of the row's allow list cannot be read.
    """
    try:
        options = row.options
        resolve = resolver(options.references)
        imported = import_document(row.document, row.url, selection=options.select, resolve=resolve)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        # The document comes from outside and may have the wrong type anywhere.
        raise BadDocument(f"the document is malformed: {type(error).__name__}: {error}", "document") from error
    wrong = validation.schema_errors(operation.tool for operation in imported.operations)
    checked = Imported(
        operations=tuple(operation for operation in imported.operations if operation.tool.name not in wrong),
        report=imported.report.without(wrong),
    )
    operations = checked.usable()
    named = [url for url in (row.url, row.options.base_url) if url is not None]
    allowed = permission({each.base_url for each in operations}, named, row.options.allow, trusted)
    schemes = _bound(row, allowed)
    tools = tuple(_tool(operation, row, allowed, schemes) for operation in operations)
    if len({origin for tool in tools if tool.keys and (origin := _apart(tool, allowed)) is not None}) > 1:
        raise BadInput("its operations are at several hosts; allow those that may see its secrets", "allow")
    return Toolset(row, tools, operations[0].base_url, allowed, checked.report)


def _bound(row: ToolsetRow, allowed: Permission) -> dict[str, Scheme]:
    """The schemes that there are secrets for. Raises BadInput for one that there is not, or that leads elsewhere."""
    known = read_schemes(row.document, row.url)
    for name in row.options.secrets:
        if name not in known:
            there = ", ".join(sorted(known)[:20]) or "there are none"
            raise BadInput(f"the document has no usable security scheme {name!r} ({there})", "secrets")
        if known[name].kind is Kind.CLIENT_CREDENTIALS:
            try:
                allowed.check(httpx.URL(known[name].token_url))
            except (Forbidden, httpx.InvalidURL) as error:
                raise BadInput(f"the token address of {name!r} {error}: allow its host", "allow") from error
    return {name: known[name] for name in row.options.secrets}


def _tool(operation: Operation, row: ToolsetRow, allowed: Permission, schemes: dict[str, Scheme]) -> HttpTool:
    """A tool with its keys; what they fill in is no argument of it any more."""
    keys: list[Key] = []
    for name, scopes in chosen(operation.security, schemes, tuple(schemes)).items():
        scheme = schemes[name]
        keys.append(Key(scheme, row.options.secrets[name], scopes))
        operation = operation.without(scheme.place, scheme.name)
    return HttpTool(operation, row.name, allowed, tuple(keys))


def _apart(tool: HttpTool, allowed: Permission) -> Origin | None:
    """Where a tool is, unless whoever registered it named that host."""
    try:
        origin = origin_of(httpx.URL(tool.operation.base_url))
    except (Forbidden, httpx.InvalidURL):
        return None  # and so it is never asked
    return None if origin.host in allowed.hosts else origin
