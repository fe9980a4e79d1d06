"""Tools of an MCP server as tools.

What a server says of its own tools are hints that nobody has checked. `readOnlyHint` and `idempotentHint` are believed
when a call could be repeated after a crash: a server that lies there only gets its own call twice. Whether a call
changes nothing, which decides what a policy lets through, is believed only of a server whose registration says so
(`trust_hints`); of all others every tool counts as one that changes something.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.egress.permission import Permission
from gateway.mcp.servers import Remote, Server, server_of
from gateway.store import ToolsetRow
from gateway.tools import validation
from gateway.tools.catalogue import Sent, Tool, Toolset
from umi.errors import BadDocument
from umi.mcp import METHOD, McpOperation, McpRequest, build_call, import_listing
from umi.openapi import Status
from umi.trajectory import JsonObject


@dataclass(frozen=True)
class McpTool(Tool[McpOperation]):
    """A tool of a listing, and the server that has it."""

    server: Server
    trusts_hints: bool = False

    @property
    def method(self) -> str:
        """The method of MCP that calls it."""
        return METHOD

    @property
    def path(self) -> str:
        """The server's name for it."""
        return self.operation.name

    @property
    def is_read_only(self) -> bool:
        """Whether calling it changes nothing, according to a server that is trusted in this."""
        return self.trusts_hints and self.operation.says_read_only

    def may_repeat(self, request: Sent) -> bool:
        """Whether the server says that another such call does no more than the first."""
        is_same = isinstance(request, McpRequest) and request.tool == self.operation.name
        return is_same and (self.operation.says_read_only or self.operation.says_idempotent)

    def request(self, arguments: JsonObject) -> McpRequest:
        """The call. Raises CallRejected saying what to fix when the arguments break the schema."""
        self.check(arguments)
        return build_call(self.operation, arguments, self.server.shown)


def read_listing(row: ToolsetRow, trusted: Sequence[str] = ()) -> Toolset:
    """The usable tools of a server's listing, kept as the row's document, and what became of the others.

    Raises BadDocument if there are none, BadInput for what the registration must not say.
    """
    assert row.options.mcp is not None
    server = server_of(row, trusted)
    listed = import_listing(row.document.get("tools"))
    wrong = validation.schema_errors(operation.tool for operation in listed.operations)
    report = listed.report.without(wrong)
    trusts = row.options.mcp.trust_hints
    tools = [McpTool(each, row.name, server, trusts) for each in listed.operations if each.tool.name not in wrong]
    if not tools:
        first = report.of(Status.REFUSED)[0]
        raise BadDocument(f"no tool is usable; {first.path}: {first.reason}", "document")
    allowed = server.permission if isinstance(server, Remote) else Permission(frozenset())
    return Toolset(row, tuple(tools), server.shown, allowed, report)
