"""umi tools: list the registered tools; add, show or remove a toolset."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Api, Failed
from gateway.cli.ask import plain
from gateway.cli.common import GatewayUrl
from gateway.policy import Policy
from gateway.tools.fetch import parse
from umi.errors import UmiError
from umi.openapi import Report, Status
from umi.prompt import signature
from umi.trajectory import ToolSpec

app = typer.Typer(help="List the registered tools; add, show or remove some.", invoke_without_command=True)


@app.callback()
def list_tools(
    context: typer.Context,
    query: Annotated[str | None, typer.Option(help="Only the tools that this query would be offered.")] = None,
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """List the registered tools; add, show or remove some."""
    if context.invoked_subcommand is not None:
        return
    table = Table("tool", "what it does", "toolset", "", box=None)
    tools: list[dict[str, Any]] = Api(gateway).get("/v1/tools", {"query": query} if query else {})
    for tool in tools:
        asks = "needs approval" if tool["needs_approval"] else ""
        toolset = f"{tool['toolset']} {tool['version']}"
        table.add_row(plain(tool["name"]), plain(tool["summary"]), plain(toolset), asks)
    console = Console()
    console.print(table if tools else "No tools yet. Add some with: umi tools add NAME URL_OR_FILE")


@app.command("import", hidden=True)  # the word for it elsewhere
@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for the toolset.")],
    source: Annotated[
        str | None,
        typer.Argument(metavar="URL_OR_FILE", help="An OpenAPI 3 or Swagger 2.0 document, JSON or YAML."),
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="The URL is an MCP server's (streamable HTTP).")] = False,
    mcp_command: Annotated[
        str | None,
        typer.Option(help="Run this as an MCP server; the gateway's UMI_MCP_COMMANDS must have the same words."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=REFERENCE", help="A variable for the command, its value as in --secret; repeatable."
        ),
    ] = None,
    trust_hints: Annotated[
        bool, typer.Option("--trust-hints", help="Believe the MCP server which of its tools change nothing.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Where the tools are, in place of the document's servers.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A host or network that its calls may reach though it is not public; may be repeated."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEME=REFERENCE",
            help="Where the secret of a security scheme is: env:UMI_SECRET_NAME or file:NAME; repeatable. For an MCP "
            "server, the scheme is bearer or the name of a header.",
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only operations with this tag; may be repeated.")] = None,
    not_tag: Annotated[list[str] | None, typer.Option(help="No operations with this tag; may be repeated.")] = None,
    path: Annotated[
        list[str] | None, typer.Option(help="Only paths like this, such as /pets/*; may be repeated.")
    ] = None,
    not_path: Annotated[list[str] | None, typer.Option(help="No paths like this; may be repeated.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this HTTP method; may be repeated.")] = None,
    deprecated: Annotated[bool, typer.Option("--deprecated", help="Deprecated operations as well.")] = False,
    policy: Annotated[
        Policy, typer.Option(help="Whether tools that change something are allowed, left out, or need approval.")
    ] = Policy.ALLOWED,
    tool_policy: Annotated[
        list[str] | None, typer.Option(metavar="TOOL=POLICY", help="An exception for one tool; may be repeated.")
    ] = None,
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """Register a toolset from an OpenAPI document or an MCP server; one of that name is replaced."""
    body: dict[str, Any] = {"name": name, "allow": allow or [], **({"base_url": base_url} if base_url else {})}
    body["secrets"] = dict(_named(each) for each in secret or ())
    select = {"include_tags": tag, "exclude_tags": not_tag, "include_paths": path, "exclude_paths": not_path}
    select |= {"methods": [each.upper() for each in method or ()], "deprecated": deprecated}
    if chosen := {name: value for name, value in select.items() if value}:
        body["select"] = chosen
    body |= {"policy": policy, "tool_policy": dict(_exception(each) for each in tool_policy or ())}
    if (source is None) == (mcp_command is None):
        raise Failed("Give URL_OR_FILE, or --mcp-command.")
    server: dict[str, Any] = {"trust_hints": True} if trust_hints else {}
    if mcp_command is not None:
        body["mcp"] = {**server, "command": shlex.split(mcp_command), "env": dict(_named(each) for each in env or ())}
    elif mcp:
        body["mcp"] = {**server, "url": source}
    elif source is None:
        raise AssertionError("either was given")
    elif source.startswith(("http://", "https://")):
        body["url"] = source
    else:
        try:
            body["document"] = parse(source, Path(source).read_bytes())
        except OSError as error:
            raise Failed(f"{source}: {error.strerror}") from error
        except UmiError as error:
            raise Failed(str(error)) from error
    added = Api(gateway).add_toolset(body)
    print(f"{added['name']}: {', '.join(added['tools'])}")
    if added["withheld"]:
        print(f"left out, as they may change something: {', '.join(added['withheld'])}")
    report = Report(operations=added["report"])
    if report.of(Status.WITH_LOSS, Status.REFUSED, Status.LEFT_OUT):
        print(report.summary)
    for operation in report.of(Status.REFUSED):
        print(plain(f"refused: {f'{operation.method} {operation.path}'.strip()}: {operation.reason}"))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The toolset.")],
    version: Annotated[int | None, typer.Option(min=1, help="As it was then; by default as it is now.")] = None,
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """Show a toolset: each tool as models read it, the request behind it, and what was lost, refused or left out."""
    api, place = Api(gateway), f"/v1/toolsets/{quote(name, safe='')}"
    number: int = version or api.get(place)["version"]
    kept: dict[str, Any] = api.get(f"{place}/versions/{number}")
    report = Report(operations=kept["report"])
    specs = {tool["name"]: ToolSpec.model_validate(tool["spec"]) for tool in kept["specs"]}
    print(plain(f"{name} {number}, {kept['base_url']}: {report.summary}"))
    for operation in report.operations:
        request = f"{operation.method} {operation.path}".strip()
        if operation.name in specs:
            print(plain(f"\n{signature(specs[operation.name])}\n  {request}"))
        else:
            why = operation.reason or "its policy does not let it be offered"
            print(plain(f"\n{request}\n  {operation.status.replace('_', ' ')}: {why}"))
        for loss in operation.losses:
            print(plain(f"  lost: {loss}"))


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The toolset.")],
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """Forget a toolset; its versions are kept for the runs that used it, and runs in progress go on with it."""
    Api(gateway).remove_toolset(name)


@app.command()
def versions(
    name: Annotated[str, typer.Argument(help="The toolset, also one that was deleted.")],
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """List the versions of a toolset that are kept, the newest first."""
    table = Table("version", "registered", "operations", "content", "", box=None)
    found: list[dict[str, Any]] = Api(gateway).get(f"/v1/toolsets/{quote(name, safe='')}/versions")
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["registered_at"]))
        counts = ", ".join(
            f"{count} {status.replace('_', ' ')}" for status, count in (each["operations"] or {}).items()
        )
        current = "current" if each["current"] else ""
        table.add_row(str(each["version"]), when, plain(counts), each["digest"][:12], current)
    Console().print(table)


def _exception(text: str) -> tuple[str, str]:
    name, _, policy = text.partition("=")
    if policy not in set(Policy):
        raise Failed(f"--tool-policy takes TOOL=POLICY, and a policy is one of {', '.join(Policy)}.")
    return name, policy


def _named(text: str) -> tuple[str, str]:
    name, separator, reference = text.partition("=")
    if not separator or ":" not in reference:  # the text itself may be a secret: it is not repeated
        raise Failed("--secret and --env take NAME=env:UMI_SECRET_NAME or NAME=file:NAME, never the secret itself.")
    return name, reference


@app.command()
def examples(
    url: Annotated[str, typer.Argument(help="Where `python -m examples.tools` serves.")],
    gateway: GatewayUrl = "http://127.0.0.1:8000",
) -> None:
    """Register every service of the example tools."""
    names = register_examples(Api(gateway), url.rstrip("/"))
    print(f"registered: {', '.join(names)}")


def register_examples(gateway: Api, tools_url: str) -> list[str]:
    """Register every service that the example tools list; returns their names. Raises Failed."""
    try:
        listed: dict[str, str] = httpx.get(f"{tools_url}/", timeout=10, trust_env=False).raise_for_status().json()
    except httpx.HTTPError as error:
        raise Failed(f"The example tools at {tools_url} could not be listed: {error}") from error
    for name, path in listed.items():
        gateway.add_toolset({"name": name, "url": tools_url + path})
    return list(listed)
