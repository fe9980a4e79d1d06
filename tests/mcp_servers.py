"""An MCP server for tests, made with the official package: it works, and misbehaves on demand, over both transports."""

import asyncio
import contextlib
import fcntl
import os
import stat
import sys
from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from starlette.applications import Starlette

OBJECT = {"type": "object"}
PAGE = 4


def tool(name: str, description: str = "", hints: dict[str, bool] | None = None, **properties: Any) -> types.Tool:
    schema = {**OBJECT, "properties": properties, "required": list(properties)}
    annotations = types.ToolAnnotations.model_validate(hints) if hints else None
    return types.Tool(name=name, description=description, input_schema=schema, annotations=annotations)


NUMBER, TEXT = {"type": "integer"}, {"type": "string"}
TOOLS = [
    tool("mcp_add", "Add two whole numbers", {"readOnlyHint": True}, a=NUMBER, b=NUMBER),
    tool("keep", "Keep a note", None, text=TEXT),
    tool("late", "Answer late", {"readOnlyHint": True}),
    tool("keep_late", "Keep a note, late", None, text=TEXT),
    tool("vast", "Answer 50 MB"),
    tool("picture", "Answer a picture"),
    tool("fails", "Fail"),
    tool("refuses", "Answer an error of the protocol"),
    tool("echo secret", "Repeat what the server knows of its caller"),
    tool("dies", "End the process"),
    tool("floods", "Write for ever"),
    tool("complains", "Write for ever where errors are written"),
    tool("asks", "Ask the user for more"),
    tool("changes", "Have one tool more"),
    tool("pid", "Tell which process this is"),
]


class Fake:
    """One server: `called` are the names of tools that were called, `cancelled` of those whose call was given up.

    A legacy one knows no protocol after 2025-11-25: it keeps sessions.
    """

    def __init__(self, is_legacy: bool = False) -> None:
        self.bus = InMemorySubscriptionBus()
        self.listed, self.is_legacy = 0, is_legacy
        self.called: list[str] = []
        self.cancelled: list[str] = []
        self.tools = list(TOOLS)
        self.headers: list[dict[str, str]] = []
        self.server: Server[Any] = Server(
            "fake",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_subscriptions_listen=ListenHandler(self.bus),
        )
        if is_legacy:
            self.server.add_request_handler("server/discover", types.RequestParams, _unknown)

    def app(self, **options: Any) -> Starlette:
        """Over streamable HTTP at /mcp."""
        return self.server.streamable_http_app(**options)

    async def list_tools(
        self, _: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        self.listed += 1
        start = int((params and params.cursor) or 0)
        more = str(start + PAGE) if start + PAGE < len(self.tools) else None
        return types.ListToolsResult(tools=self.tools[start : start + PAGE], next_cursor=more)

    async def call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        name, given = params.name, params.arguments or {}
        self.called.append(name)
        if context.request is not None:
            self.headers.append(dict(context.request.headers))
        match name:
            case "mcp_add":
                return _structured({"sum": given["a"] + given["b"]})
            case "keep":
                return _text(f"kept {given['text']}")
            case "late" | "keep_late":
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled.append(name)
                    raise
                return _text("late")
            case "vast":
                return _text("x" * 50_000_000)
            case "picture":
                image = types.ImageContent(data="aGVsbG8=", mime_type="image/png")
                return types.CallToolResult(content=[types.TextContent(text="a picture"), image])
            case "fails":
                return types.CallToolResult(content=[types.TextContent(text="the disk is on fire")], is_error=True)
            case "echo secret":
                header = dict(context.request.headers).get("authorization") if context.request else None
                return _text(f"you are {header or os.environ.get('TOKEN')}, {sorted(os.environ)}")
            case "dies":
                print("dying with", os.environ.get("TOKEN"), file=sys.stderr, flush=True)
                os._exit(3)
            case "floods":
                while True:
                    os.write(_pipe(), b"x" * 65_536)
            case "complains":
                while True:
                    os.write(2, b"x" * 1000 + b"\n")
            case "changes":
                self.tools.append(tool("newcomer"))
                await context.session.send_tool_list_changed()
                await self.bus.publish(ToolsListChanged())
                return _text("changed")
            case "pid":
                return _text(f"process {os.getpid()}")
            case "asks":
                return types.InputRequiredResult(input_requests={}, request_state="x")
            case _:
                raise MCPError(types.INVALID_PARAMS, "no such thing")


async def _unknown(_: ServerRequestContext[Any], __: types.RequestParams) -> types.EmptyResult:
    raise MCPError(types.METHOD_NOT_FOUND, "Method not found")


def _text(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


def _structured(value: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=str(value))], structured_content=value)


def _pipe() -> int:
    """Where the package has moved standard output to, so that nothing else can write there."""
    for fd in range(3, 100):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY:
                return fd
    raise AssertionError("there is no pipe")


async def _serve() -> None:
    fake = Fake()
    async with stdio_server() as (incoming, outgoing):
        await fake.server.run(incoming, outgoing, fake.server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(_serve)
