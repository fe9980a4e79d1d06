"""Calls on their way out: HTTP requests through the dispatcher, `tools/call` through the sessions with MCP servers."""

from gateway.egress.dispatch import Dispatcher, Reply
from gateway.events import ToolOutcome
from gateway.mcp.sessions import Sessions
from gateway.tools.catalogue import Sent, Tool
from gateway.tools.http_tools import HttpTool
from gateway.tools.mcp_tools import McpTool
from umi.mcp import McpRequest
from umi.openapi import HttpRequest


class Calls:
    """Sends what was written for a tool. Cancelling reaches the tool."""

    def __init__(self, dispatcher: Dispatcher, sessions: Sessions) -> None:
        self._dispatcher, self._sessions = dispatcher, sessions

    async def send(self, request: Sent, tool: Tool) -> Reply:
        """What is observed. Never raises."""
        match request, tool:
            case HttpRequest(), HttpTool():
                return await self._dispatcher.send(request, tool.permission, tool.keys)
            case McpRequest(), McpTool():
                return await self._sessions.call(tool.server, request)
            case _:
                return Reply("Not sent: its toolset has been replaced by another one.", ToolOutcome.REJECTED)
