"""Listings of MCP servers as tools, and what they answer as observations: pure, by the rules of OpenAPI."""

from typing import Any

import pytest

from gateway.mcp.servers import Command, Remote, server_of
from gateway.store import McpOptions, ToolsetOptions, ToolsetRow
from gateway.tools.mcp_tools import McpTool, read_listing
from umi.errors import BadDocument, BadInput, CallRejected
from umi.mcp import McpRequest, import_listing
from umi.observation import observe_result
from umi.openapi import HttpRequest

URL = "https://mcp.example/mcp"


def listed(name: Any = "t", schema: Any = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": schema or {"type": "object"}, **fields}


def row(*tools: Any, trust_hints: bool = False, **options: Any) -> ToolsetRow:
    mcp = McpOptions(trust_hints=trust_hints, **options.pop("mcp", {}))
    given = ToolsetOptions(mcp=mcp, **options)
    return ToolsetRow(name="x", url=None if mcp.command else URL, document={"tools": list(tools)}, options=given)


def tool(*, trust_hints: bool = False, **fields: Any) -> McpTool:
    made = read_listing(row(listed(**fields), trust_hints=trust_hints)).tools[0]
    assert isinstance(made, McpTool)
    return made


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_a_tool_has_a_name_and_a_description_that_fit_a_prompt() -> None:
    made = tool(name="weather/now v2", description="<b>Weather</b> " + "x" * 1000, title="Now")
    assert made.name == "weather_now_v2"
    assert made.path == "weather/now v2"
    assert made.spec.description.startswith("Weather") and len(made.spec.description) <= 300
    assert tool(name="n", title="The title").spec.description == "The title"


def test_references_are_inlined_and_odd_argument_names_find_back() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/N"}, "odd name!": {"type": "string"}},
        "required": ["n"],
        "$defs": {"N": {"type": "integer", "minimum": 1}},
    }
    made = tool(schema=schema)
    assert made.spec.parameters["properties"]["n"] == {"type": "integer", "minimum": 1}
    sent = made.request({"n": 2, "odd_name": "x"})
    assert sent == McpRequest(server=URL, tool="t", arguments={"n": 2, "odd name!": "x"})
    with pytest.raises(CallRejected, match="argument 'n'"):
        made.request({"n": 0})


def test_a_tool_without_arguments_has_none_and_one_with_any_has_one() -> None:
    assert tool(schema={"type": "object", "properties": {}}).request({}).arguments == {}
    free = tool(schema={"type": "object", "additionalProperties": True})
    assert free.request({"body": {"anything": 1}}).arguments == {"anything": 1}


def test_what_became_of_each_tool_is_reported() -> None:
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(150)}}
    outside = {"type": "object", "properties": {"p": {"$ref": "https://elsewhere.example/x"}}}
    report = import_listing(
        [listed("a"), listed("b", wide), listed("c", outside), listed("d", {"type": "string"}), {"name": 3}, "x"]
    ).report
    assert [(entry.path, entry.status) for entry in report.operations] == [
        ("a", "imported"),
        ("b", "with_loss"),
        ("c", "refused"),
        ("d", "refused"),
        ("3", "refused"),
        ("", "refused"),
    ]
    assert "fields left out: 50" in report.operations[1].losses[0]
    assert "only references inside" in str(report.operations[2].reason)


@pytest.mark.parametrize("tools", [None, [], {}, "x"])
def test_a_listing_without_tools_is_refused(tools: Any) -> None:
    with pytest.raises(BadDocument, match="no tools"):
        import_listing(tools)


def test_equal_names_get_numbers() -> None:
    names = [made.tool.name for made in import_listing([listed("a b"), listed("a.b"), listed("a_b")]).operations]
    assert names == ["a_b", "a_b_2", "a_b_3"]


HINTS = [
    ({"readOnlyHint": True}, True),
    ({"idempotentHint": True}, True),
    ({}, False),
    ({"readOnlyHint": "yes"}, False),
]


@pytest.mark.parametrize(("hints", "repeats"), HINTS)
def test_hints_say_whether_a_call_is_repeated_after_a_crash(hints: dict[str, Any], repeats: bool) -> None:
    made = tool(annotations=hints)
    assert made.may_repeat(made.request({})) is repeats


def test_a_call_of_what_is_another_tool_by_now_is_not_repeated() -> None:
    made = tool(annotations={"readOnlyHint": True})
    assert not made.may_repeat(McpRequest(server=URL, tool="other", arguments={}))
    assert not made.may_repeat(HttpRequest(method="GET", url="http://x", headers={}))


def test_only_a_trusted_server_is_believed_that_a_tool_changes_nothing() -> None:
    assert not tool(annotations={"readOnlyHint": True}).is_read_only
    assert tool(annotations={"readOnlyHint": True}, trust_hints=True).is_read_only
    assert not tool(annotations={"idempotentHint": True}, trust_hints=True).is_read_only


def test_secrets_travel_as_a_bearer_token_or_a_header() -> None:
    server = server_of(row(secrets={"bearer": "env:UMI_SECRET_A", "X-Api-Key": "file:b"}))
    assert isinstance(server, Remote)
    assert [(key.scheme.kind, key.scheme.name) for key in server.keys] == [
        ("apiKey", "X-Api-Key"),
        ("bearer", "authorization"),
    ]


@pytest.mark.parametrize("name", ["host", "Authorization", "content-length", "mcp-session-id", "x y", "x\r\ny", ""])
def test_a_secret_cannot_be_a_header_that_is_the_clients(name: str) -> None:
    with pytest.raises(BadInput, match="bearer"):
        server_of(row(secrets={name: "env:UMI_SECRET_A"}))


@pytest.mark.parametrize("name", ["PATH", "HOME", "LD_PRELOAD", "UMI_DATABASE", "a b", "x=y", ""])
def test_a_variable_cannot_change_how_the_child_is_started(name: str) -> None:
    with pytest.raises(BadInput, match="variable"):
        server_of(row(mcp={"command": ("x",), "env": {name: "env:UMI_SECRET_A"}}))


def test_servers_of_two_tenants_are_never_the_same() -> None:
    mine = server_of(row(mcp={"command": ("run", "it now")}))
    theirs = server_of(row(mcp={"command": ("run", "it now")}).model_copy(update={"tenant": "other"}))
    assert isinstance(mine, Command) and mine.shown == "run 'it now'"
    assert mine != theirs


def test_structured_content_is_preferred_and_shortened_by_structure() -> None:
    assert observe_result([text("three")], {"sum": 3}, False) == '{"sum": 3}'
    long = observe_result([], {"rows": list(range(1000))}, False)
    assert len(long) <= 1500 and "more" in long


def test_text_that_is_json_is_shortened_by_structure_and_other_text_at_its_end() -> None:
    assert observe_result([text('{"a":1}')], None, False) == '{"a": 1}'
    assert observe_result([text("one"), text("two")], None, False) == "one\ntwo"
    assert observe_result([text("12")], None, False) == "12"
    assert len(observe_result([text("x" * 9000)], None, False)) < 1600


def test_an_error_is_told_as_one_once() -> None:
    assert observe_result([text("no such city")], None, True) == "Error: no such city"
    assert observe_result([text("Error executing tool")], None, True) == "Error executing tool"
    assert observe_result([], {"code": 7}, True) == 'Error: {"code": 7}'
    assert observe_result([], None, True) == "Error: no reason given"


def test_what_is_no_text_is_named_by_type_and_size() -> None:
    picture = {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="}
    assert observe_result([picture], None, False) == "Binary content of type image/png, about 6 bytes; not shown."
    resource = {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}
    assert observe_result([resource], None, False) == "inside"
    blob = {"type": "resource", "resource": {"uri": "file:///a", "blob": "aGVsbG8="}}
    assert observe_result([blob], None, False) == "Binary content of type unknown, about 6 bytes; not shown."
    link = {"type": "resource_link", "name": "a", "uri": "file:///a"}
    assert observe_result([link], None, False) == "Resource a: file:///a"
    assert observe_result([], None, False) == "Done (no content)."
    assert (
        observe_result(["x", {"type": 3}], None, False) == "Binary content of type unknown, about 0 bytes; not shown."
    )
