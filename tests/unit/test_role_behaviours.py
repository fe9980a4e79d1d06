"""What differs between the roles: whose turn it is, and what counts as an answer."""

import json

import pytest

from services.caller import CALLER
from services.planner import PLANNER
from services.role import RoleBehaviour
from services.summarizer import SUMMARIZER
from umi.errors import BadInput, RoleOutputInvalid
from umi.manifest import ALL_ROLES, Kind, Manifest
from umi.roles import Turn
from umi.trajectory import Call, Plan, Step, ToolSpec, Trajectory
from umi.wire import CallReply, Usage

USAGE = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (ToolSpec(name="weather", parameters=CITY), ToolSpec(name="now"))
PLAN = Plan(rationale="I need the weather.", turn=Turn.CALLER)
PLANNED = Step(plan=PLAN)
FINISHED = Step(plan=PLAN, call=Call(tool="now"), observation="noon")


def trajectory(*steps: Step, tools: tuple[ToolSpec, ...] = TOOLS) -> Trajectory:
    return Trajectory(query="What is the weather?", tools=tools, steps=steps)


MANIFEST = Manifest(version="v1", roles=ALL_ROLES, kind=Kind.ADAPTER, backbone="b", prompt_sha256="", files={})


SPACED = MANIFEST.model_copy(update={"spaced_strings": True})


def call(text: str, tools: tuple[ToolSpec, ...] = TOOLS, manifest: Manifest = MANIFEST) -> Call:
    reply = CALLER.reply(text, trajectory(PLANNED, tools=tools), manifest, USAGE)
    assert isinstance(reply, CallReply)
    return reply.call


@pytest.mark.parametrize("steps", [(), (FINISHED,), (FINISHED, FINISHED)])
def test_a_planner_takes_its_turn_after_finished_steps(steps: tuple[Step, ...]) -> None:
    PLANNER.check(trajectory(*steps))


def test_a_planner_refuses_an_unfinished_step_by_its_place() -> None:
    with pytest.raises(BadInput) as caught:
        PLANNER.check(trajectory(FINISHED, PLANNED))
    assert caught.value.field == "trajectory.steps.1.observation"


@pytest.mark.parametrize("role", [CALLER, SUMMARIZER])
def test_caller_and_summarizer_take_their_turn_when_the_newest_step_is_a_plan(role: RoleBehaviour) -> None:
    role.check(trajectory(PLANNED))
    role.check(trajectory(FINISHED, PLANNED))


@pytest.mark.parametrize("role", [CALLER, SUMMARIZER])
@pytest.mark.parametrize("steps", [(), (FINISHED,), (PLANNED, PLANNED)])
def test_caller_and_summarizer_refuse_any_other_trajectory(role: RoleBehaviour, steps: tuple[Step, ...]) -> None:
    with pytest.raises(BadInput):
        role.check(trajectory(*steps))


def test_a_caller_without_tools_or_with_a_broken_schema_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no tool"):
        CALLER.check(trajectory(PLANNED, tools=()))
    with pytest.raises(BadInput, match="not a JSON Schema"):
        CALLER.check(trajectory(PLANNED, tools=(ToolSpec(name="bad", parameters={"type": 3}),)))


def test_a_call_of_an_offered_tool_with_valid_arguments_is_an_answer() -> None:
    assert call('{"name": "weather", "arguments": {"city": "Oslo"}}') == Call(
        tool="weather", arguments={"city": "Oslo"}
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I would call weather", "not JSON"),
        ('{"name": "invented", "arguments": {}}', "not one of the offered tools"),
        ('{"name": "weather", "arguments": {}}', "'city' is a required property"),
        ('{"name": "weather", "arguments": {"city": 3}}', "3 is not of type 'string'"),
        ('{"name": "weather", "arguments": {"city": "Oslo", "unit": "c"}}', "'unit' was unexpected"),
    ],
)
def test_a_call_that_breaks_the_rules_says_how(text: str, reason: str) -> None:
    with pytest.raises(RoleOutputInvalid, match=reason):
        call(text)


def test_a_schema_never_makes_the_caller_fetch_a_reference() -> None:
    tools = (
        ToolSpec(name="remote", parameters={"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/x"}}}),
    )
    with pytest.raises(BadInput, match="Unresolvable"):
        call('{"name": "remote", "arguments": {"x": 1}}', tools)


def test_the_callers_constraint_names_exactly_the_offered_tools() -> None:
    constraint = CALLER.constrain(trajectory(PLANNED), MANIFEST)
    assert constraint is not None and constraint.kind == "json"
    options = json.loads(constraint.source)["anyOf"]
    assert [option["properties"]["name"]["const"] for option in options] == ["weather", "now"]


@pytest.mark.parametrize(("manifest", "city"), [(SPACED, "Lucknow"), (MANIFEST, " Lucknow")])
def test_a_space_before_a_string_is_taken_off_only_where_the_weights_put_it(manifest: Manifest, city: str) -> None:
    text = '{"name": "weather", "arguments": {"city": " Lucknow"}}'
    assert call(text, manifest=manifest).arguments == {"city": city}


def test_a_spaced_string_is_constrained_with_its_space_and_judged_without() -> None:
    letter = ToolSpec(
        name="solve", parameters={"properties": {"x": {"type": "string", "minLength": 1, "maxLength": 1}}}
    )
    constraint = CALLER.constrain(trajectory(PLANNED, tools=(letter,)), SPACED)
    assert constraint is not None
    (option,) = json.loads(constraint.source)["anyOf"]
    assert option["properties"]["arguments"]["properties"]["x"] == {"type": "string", "minLength": 2, "maxLength": 2}
    assert call('{"name": "solve", "arguments": {"x": " y"}}', (letter,), SPACED).arguments == {"x": "y"}
    with pytest.raises(RoleOutputInvalid, match="non-empty"):
        call('{"name": "solve", "arguments": {"x": " "}}', (letter,), SPACED)


def test_a_plan_without_a_legal_turn_and_an_empty_answer_are_invalid() -> None:
    with pytest.raises(RoleOutputInvalid):
        PLANNER.reply("I wonder. Next: dance.", trajectory(), MANIFEST, USAGE)
    with pytest.raises(RoleOutputInvalid):
        SUMMARIZER.reply("  ", trajectory(PLANNED), MANIFEST, USAGE)
