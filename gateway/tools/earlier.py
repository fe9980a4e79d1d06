"""Tools of a run that is gone on with after their toolset was replaced: what they mean is from then, what they may is
from now.

The toolset of today decides whether a tool may still be called, where requests may go, which secrets are named and
which calls wait for approval; description, arguments and the request that is made of them are those that the run was
offered. A tool never becomes another one that has its name by now.
"""

from dataclasses import dataclass, replace

from gateway.policy import Decision, decide
from gateway.tools.catalogue import Catalogue, Described, Sent, Tool, Toolset
from gateway.tools.http_tools import HttpTool
from gateway.tools.mcp_tools import McpTool
from umi.errors import CallRejected
from umi.trajectory import JsonObject


@dataclass(frozen=True)
class Withdrawn(Tool[Described]):
    """A tool that may not be called any more. Models still see it, as prompts only grow, and are told why."""

    then: Tool
    reason: str

    @property
    def method(self) -> str:
        """What it was."""
        return self.then.method

    @property
    def path(self) -> str:
        """What it was."""
        return self.then.path

    @property
    def is_read_only(self) -> bool:
        """What it was."""
        return self.then.is_read_only

    def may_repeat(self, request: Sent) -> bool:
        """Never."""
        return False

    def request(self, arguments: JsonObject) -> Sent:
        """Raises CallRejected."""
        raise CallRejected(self.reason)


def resumed(then: Tool, catalogue: Catalogue) -> Tool:
    """A tool that a run was offered, as it may be called now that `catalogue` is what there is."""
    toolset, now = catalogue.toolsets.get(then.toolset), catalogue.tools.get(then.name)
    if toolset is None or now is None or now.toolset != then.toolset:
        return _withdrawn(then, f"there is no tool {then.name!r} any more")
    if now.version == then.version:
        return now
    match then, now:
        case HttpTool(), HttpTool():
            if not {key.reference for key in then.keys} <= set(toolset.row.options.secrets.values()):
                return _withdrawn(then, f"the toolset of {then.name!r} has other secrets by now")
            return _judged(replace(then, permission=now.permission), toolset)
        case McpTool(), McpTool() if now.server.shown == then.server.shown:
            trusts = then.trusts_hints and now.trusts_hints
            return _judged(replace(then, server=now.server, trusts_hints=trusts), toolset)
        case _:
            return _withdrawn(then, f"the toolset of {then.name!r} is another service by now")


def _judged(tool: Tool, toolset: Toolset) -> Tool:
    """The tool under both policies, that which it was offered with and that of `toolset`."""
    options = toolset.row.options
    decision = decide(options.policy, options.tool_policy, tool.name, not tool.is_read_only)
    if decision is Decision.DENY:
        return _withdrawn(tool, f"there is no tool {tool.name!r} any more")
    return replace(tool, decision=Decision.ASK if tool.decision is Decision.ASK else decision)


def _withdrawn(then: Tool, reason: str) -> Withdrawn:
    return Withdrawn(then.operation, then.toolset, then, reason, version=then.version)
