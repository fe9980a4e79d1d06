"""What a policy comes to, and what of a toolset it lets be offered."""

import pytest

from gateway.policy import Decision, Policy, decide
from gateway.store import ToolsetOptions, ToolsetRow
from gateway.tools.toolsets import read_toolset
from umi.errors import BadInput

PATHS = {
    "/notes": {"get": {"operationId": "list_notes"}, "post": {"operationId": "make_note"}},
    "/notes/{id}": {"delete": {"operationId": "delete_note"}},
}
DOCUMENT = {"openapi": "3.1.0", "servers": [{"url": "https://notes.example"}], "paths": PATHS}


@pytest.mark.parametrize(
    ("policy", "own", "reads", "writes"),
    [
        (Policy.ALLOWED, None, Decision.ALLOW, Decision.ALLOW),
        (Policy.READ_ONLY, None, Decision.ALLOW, Decision.DENY),
        (Policy.NEEDS_APPROVAL, None, Decision.ALLOW, Decision.ASK),
        (Policy.READ_ONLY, Policy.ALLOWED, Decision.ALLOW, Decision.ALLOW),
        (Policy.READ_ONLY, Policy.NEEDS_APPROVAL, Decision.ASK, Decision.ASK),
        (Policy.ALLOWED, Policy.NEEDS_APPROVAL, Decision.ASK, Decision.ASK),
        (Policy.ALLOWED, Policy.READ_ONLY, Decision.ALLOW, Decision.DENY),
        (Policy.NEEDS_APPROVAL, Policy.ALLOWED, Decision.ALLOW, Decision.ALLOW),
    ],
)
def test_a_tools_own_policy_goes_before_its_toolsets(
    policy: Policy, own: Policy | None, reads: Decision, writes: Decision
) -> None:
    exceptions = {"t": own} if own else {}
    assert decide(policy, exceptions, "t", changes_state=False) is reads
    assert decide(policy, exceptions, "t", changes_state=True) is writes


def options(policy: Policy, **exceptions: Policy) -> ToolsetRow:
    return ToolsetRow(name="notes", document=DOCUMENT, options=ToolsetOptions(policy=policy, tool_policy=exceptions))


def test_of_a_read_only_toolset_what_changes_something_is_withheld() -> None:
    toolset = read_toolset(options(Policy.READ_ONLY, make_note=Policy.NEEDS_APPROVAL))
    assert [(tool.name, tool.decision) for tool in toolset.tools] == [
        ("list_notes", Decision.ALLOW),
        ("make_note", Decision.ASK),
    ]
    assert toolset.withheld == ("delete_note",)


def test_an_exception_for_a_tool_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadInput, match="no usable tool named 'remove_note'") as refused:
        read_toolset(options(Policy.ALLOWED, remove_note=Policy.NEEDS_APPROVAL))
    assert refused.value.field == "tool_policy"


def test_a_policy_that_leaves_no_tool_is_refused() -> None:
    document = {**DOCUMENT, "paths": {"/notes": {"post": {"operationId": "make_note"}}}}
    with pytest.raises(BadInput, match="leaves none") as refused:
        read_toolset(options(Policy.READ_ONLY).model_copy(update={"document": document}))
    assert refused.value.field == "policy"
