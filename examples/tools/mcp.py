"""The same operations as tools of one MCP server, each called within the process by the request that it stands for."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import mcp_types as types
from fastapi import FastAPI
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")


@dataclass(frozen=True)
class _Operation:
    """One operation of a service, and where its arguments travel; those that are named nowhere are the body's."""

    service: FastAPI
    method: str
    path: str
    places: dict[str, str]
    tool: types.Tool

    async def call(self, arguments: dict[str, Any]) -> types.CallToolResult:
        """What the service answers."""
        given: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "body": {}}
        for name, value in arguments.items():
            given[self.places.get(name, "body")][name] = value
        path = self.path
        for name, value in given["path"].items():
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        transport = httpx2.ASGITransport(app=self.service, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://tools") as client:
            body = given["body"] if "body" in self.places.values() else None
            response = await client.request(self.method, path, params=given["query"], json=body)
        data = response.json()
        if response.status_code >= 400:
            text = str(data.get("detail", "")) or response.reason_phrase
            return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
        return types.CallToolResult(content=[types.TextContent(text=json.dumps(data))], structured_content=data)


def create_server(services: Mapping[str, FastAPI]) -> Server[Any]:
    """A server that has every operation of `services`."""
    operations = {each.tool.name: each for service in services.values() for each in _operations(service)}

    async def list_tools(_: ServerRequestContext[Any], __: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[operation.tool for operation in operations.values()])

    async def call_tool(_: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name not in operations:
            return types.CallToolResult(content=[types.TextContent(text=f"No tool {params.name!r}.")], is_error=True)
        return await operations[params.name].call(params.arguments or {})

    return Server("example-tools", version="1.0.0", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio(services: Mapping[str, FastAPI]) -> None:
    """Serve over standard input and output until the input ends."""
    server = create_server(services)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


class _Endpoint:
    """An ASGI app that hands on to what serves at the time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.mcp.handle_request(scope, receive, send)


def install(root: FastAPI, path: str = "/mcp") -> None:
    """Add the route to `root`, which answers while `serving`."""
    root.router.routes.append(Route(path, _Endpoint()))


@asynccontextmanager
async def serving(root: FastAPI, services: Mapping[str, FastAPI]) -> AsyncGenerator[None]:
    """Around the time that `root` serves."""
    security = TransportSecuritySettings(allowed_hosts=list(_HOSTS), allowed_origins=[f"http://{h}" for h in _HOSTS])
    manager = StreamableHTTPSessionManager(create_server(services), stateless=True, security_settings=security)
    async with manager.run():
        root.state.mcp = manager
        yield


def _operations(service: FastAPI) -> list[_Operation]:
    # References into the document are made references into the schema, which then holds what they lead to.
    document = json.loads(json.dumps(service.openapi()).replace("#/components/schemas/", "#/$defs/"))
    definitions = document.get("components", {}).get("schemas", {})
    return [
        _operation(service, definitions, method, path, described)
        for path, item in document["paths"].items()
        for method, described in item.items()
    ]


def _operation(
    service: FastAPI, definitions: dict[str, Any], method: str, path: str, described: dict[str, Any]
) -> _Operation:
    properties: dict[str, Any] = {}
    required: list[str] = []
    places: dict[str, str] = {}
    for parameter in described.get("parameters", ()):
        name = parameter["name"]
        properties[name] = {**parameter["schema"], "description": parameter.get("description", "")}
        required += [name] if parameter.get("required") else []
        places[name] = parameter["in"]
    if body := described.get("requestBody"):
        reference = body["content"]["application/json"]["schema"]["$ref"]
        schema = definitions[reference.rpartition("/")[2]]
        properties |= schema["properties"]
        required += schema.get("required", [])
        places |= dict.fromkeys(schema["properties"], "body")
    schema = {"type": "object", "properties": properties, "required": required, "$defs": definitions}
    tool = types.Tool(
        name=described["operationId"],
        title=described["summary"],
        description=f"{described['summary']}. {described.get('description', '')}",
        input_schema=schema,
        annotations=types.ToolAnnotations(read_only_hint=method == "get"),
    )
    return _Operation(service, method.upper(), path, places, tool)
