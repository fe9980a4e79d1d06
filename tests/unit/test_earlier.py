"""Tools of a run whose toolset was replaced meanwhile: what they mean is from then, what they may from now."""

from typing import Any

import pytest

from gateway.policy import Decision, Policy
from gateway.store import McpOptions, ToolsetOptions, ToolsetRow
from gateway.tools.catalogue import Catalogue, Tool, Toolset
from gateway.tools.earlier import Withdrawn, resumed
from gateway.tools.http_tools import HttpTool
from gateway.tools.mcp_tools import McpTool
from gateway.tools.toolsets import read_toolset
from umi.errors import CallRejected
from umi.mcp import McpRequest
from umi.openapi import HttpRequest


def http(version: int, path: str, method: str = "get", name: str = "item", **options: Any) -> Toolset:
    document = {
        "openapi": "3.1.0",
        "servers": [{"url": f"https://v{version}.example"}],
        "paths": {path: {method: {"operationId": name}}, "/other": {"get": {"operationId": "other"}}},
        "components": {"securitySchemes": {"s": {"type": "http", "scheme": "bearer"}}},
    }
    row = ToolsetRow(name="t", document=document, options=ToolsetOptions(**options), version=version)
    return read_toolset(row)


def mcp(version: int, text: str, url: str = "https://a.example/mcp", **options: Any) -> Toolset:
    trusts = options.pop("trust_hints", False)
    hints = {"readOnlyHint": True}
    tool = {"name": "item", "description": text, "inputSchema": {"type": "object"}, "annotations": hints}
    said = ToolsetOptions(mcp=McpOptions(trust_hints=trusts), **options)
    return read_toolset(ToolsetRow(name="t", url=url, document={"tools": [tool]}, options=said, version=version))


def gone_on(then: Toolset, now: Toolset | None) -> Tool:
    return resumed(then.tools[0], Catalogue({} if now is None else {"t": now}))


def test_what_a_tool_means_is_from_then_and_where_it_may_go_from_now() -> None:
    then, now = http(1, "/old"), http(2, "/new")
    tool = gone_on(then, now)
    assert isinstance(tool, HttpTool)
    assert tool.request({}).url == "https://v1.example/old"
    assert tool.permission == now.permission
    assert (tool.version, tool.spec) == (1, then.tools[0].spec)


def test_a_version_that_is_current_is_as_it_is_now() -> None:
    now = http(1, "/old")
    assert gone_on(http(1, "/old"), now) is now.tools[0]


@pytest.mark.parametrize("now", [None, http(2, "/new", name="renamed"), mcp(2, "Now of a server.")])
def test_a_tool_that_is_gone_or_another_service_is_known_but_not_called(now: Toolset | None) -> None:
    then = http(1, "/old")
    tool = gone_on(then, now)
    assert isinstance(tool, Withdrawn)
    assert (tool.spec, tool.method, tool.path) == (then.tools[0].spec, "GET", "/old")
    assert not tool.may_repeat(HttpRequest(method="GET", url="https://v1.example/old", headers={}))
    with pytest.raises(CallRejected, match=r"'item'.* (any more|by now)$"):
        tool.request({})


def test_a_name_that_another_toolset_has_taken_does_not_lead_there() -> None:
    then, now = http(1, "/old"), http(1, "/new")
    taken = Catalogue({"u": read_toolset(now.row.model_copy(update={"name": "u"}))})
    assert isinstance(resumed(then.tools[0], taken), Withdrawn)


def test_a_secret_that_is_not_named_any_more_is_not_sent() -> None:
    then = http(1, "/old", secrets={"s": "env:UMI_SECRET_A"})
    assert isinstance(gone_on(then, http(2, "/new", secrets={"s": "env:UMI_SECRET_B"})), Withdrawn)
    assert isinstance(gone_on(then, http(2, "/new")), Withdrawn)
    kept = gone_on(then, http(2, "/new", secrets={"s": "env:UMI_SECRET_A"}))
    assert isinstance(kept, HttpTool)
    assert kept.keys == then.tools[0].keys


@pytest.mark.parametrize(
    ("then", "now", "decision"),
    [
        (Policy.ALLOWED, Policy.ALLOWED, Decision.ALLOW),
        (Policy.ALLOWED, Policy.NEEDS_APPROVAL, Decision.ASK),
        (Policy.NEEDS_APPROVAL, Policy.ALLOWED, Decision.ASK),
        (Policy.NEEDS_APPROVAL, Policy.READ_ONLY, None),
    ],
)
def test_of_two_policies_the_stricter_judges_what_the_call_does_and_not_what_it_would_do_now(
    then: Policy, now: Policy, decision: Decision | None
) -> None:
    tool = gone_on(http(1, "/old", "post", policy=then), http(2, "/new", "get", policy=now))
    assert (None if isinstance(tool, Withdrawn) else tool.decision) is decision


def test_a_tool_of_an_mcp_server_is_called_there_as_the_server_may_be_reached_now() -> None:
    then, now = mcp(1, "Then."), mcp(2, "Now.", allow=("10.0.0.1",))
    tool = gone_on(then, now)
    assert isinstance(tool, McpTool)
    assert (tool.spec.description, tool.server) == ("Then.", now.tools[0].server)
    assert isinstance(tool.request({}), McpRequest)
    assert isinstance(gone_on(then, mcp(2, "Now.", url="https://b.example/mcp")), Withdrawn)


def test_hints_that_are_not_believed_any_more_are_not_when_a_run_goes_on() -> None:
    then = mcp(1, "Then.", trust_hints=True, policy=Policy.NEEDS_APPROVAL)
    assert gone_on(then, mcp(2, "Now.", trust_hints=True, policy=Policy.NEEDS_APPROVAL)).decision is Decision.ALLOW
    assert gone_on(then, mcp(2, "Now.", policy=Policy.NEEDS_APPROVAL)).decision is Decision.ASK
