"""The evaluation against a running gateway with scripted roles: what is right, what is kept, what is reported."""

import asyncio
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.fakes import call, plan
from tests.world import World
from training import evaluate
from training.live import Result, Setting, Stack
from training.report import ROLES, SINGLE, table
from training.tasks.entities import Split
from training.tasks.task import Check, Kind, Task
from umi.roles import Turn
from umi.trajectory import Step, ToolSpec, Trajectory

ADD = ToolSpec(
    name="add",
    description="Add two whole numbers",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
)


def task(name: str, query: str, check: Check, kind: Kind = Kind.SINGLE) -> Task:
    steps = (
        Step(plan=plan(Turn.CALLER), call=call("add", a=2, b=3), observation="5"),
        Step(plan=plan(Turn.CONCLUSION)),
    )
    trajectory = Trajectory(query=query, tools=(ADD,), steps=steps)
    return Task(id=name, split=Split.TEST, kind=kind, intent="sum", trajectory=trajectory, answer="5", check=check)


RIGHT = task("t-1", "Add whole numbers: 2 and 3", Check(expected=("5",)))
WRONG = task("t-2", "Add whole numbers: 2 and 4", Check(expected=("6",)))
EFFECT = task("t-3", "Add whole numbers 2 and 3", Check(effect=call("add", b=3)))
NEVER = task("t-4", "What is the weather?", Check(gives_up=True), Kind.GIVE_UP)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("gateway"), stack)


@pytest.fixture(autouse=True)
def answers_five(world: World) -> None:
    world.reset()
    world.script.calls = [call("add", a=2, b=3)]
    world.script.answer = "The sum is 5."


def asked(world: World, tasks: Sequence[Task], setting: Setting = Setting.OFFERED) -> dict[str, Result]:
    async def collect() -> dict[str, Result]:
        async with Stack(world.gateway, world.tools) as stack:
            return {result.id: result async for result in stack.ask_all(tasks, 2, setting, "scripted")}

    return asyncio.run(collect())


def test_an_answer_is_right_when_it_holds_what_is_expected_and_an_effect_when_its_call_succeeded(world: World) -> None:
    results = asked(world, [RIGHT, WRONG, EFFECT, NEVER])
    assert {name: result.passed for name, result in results.items()} == {
        "t-1": True, "t-2": False, "t-3": True, "t-4": False,
    }  # fmt: skip
    assert (results["t-1"].calls, results["t-1"].invented_tools, results["t-1"].schema_breaks) == (1, 0, 0)


def test_giving_up_is_right_only_where_nothing_could_be_done(world: World) -> None:
    world.script.plans = [plan(Turn.GIVE_UP)]
    results = asked(world, [RIGHT, NEVER])
    assert (results["t-1"].passed, results["t-4"].passed) == (False, True)


def test_calls_that_break_the_schema_and_tools_that_were_not_offered_are_counted(world: World) -> None:
    world.script.calls = [call("add", a="two", b=3), call("subtract", a=2)]
    result = asked(world, [RIGHT])["t-1"]
    assert (result.calls, result.invented_tools, result.schema_breaks) == (2, 1, 1)


def test_a_refused_query_is_a_failure_with_its_reason(world: World) -> None:
    strange = RIGHT.model_copy(
        update={"trajectory": RIGHT.trajectory.model_copy(update={"tools": (ADD.model_copy(update={"name": "sub"}),)})}
    )
    result = asked(world, [strange])["t-1"]
    assert (result.passed, result.outcome) == (False, "HTTP 422")
    assert "sub" in str(result.answer)


def test_recall_is_the_share_of_tasks_that_would_be_offered_all_they_need(world: World) -> None:
    async def recall() -> float:
        async with Stack(world.start(max_offered=1), world.tools) as stack:
            return await stack.recall([RIGHT, task("t-5", "Answer with a web page", Check())])

    assert asyncio.run(recall()) == 0.5


@pytest.fixture
def scripted_stack(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`umi up` replaced by the stack that runs already."""

    @contextmanager
    def running(_: list[str], log: Path, subject: str) -> Generator[tuple[Stack, float, int]]:
        yield Stack(world.gateway, world.tools, subject), 1.0, 1

    monkeypatch.setattr(evaluate, "running", running)


@pytest.mark.usefixtures("scripted_stack")
def test_an_evaluation_that_was_cut_off_goes_on_and_its_table_counts_each_task_once(
    world: World, tmp_path: Path
) -> None:
    evaluate.compare([RIGHT], "tasks a", 2, tmp_path, [ROLES])
    before = len(world.script.requests)
    evaluate.compare([RIGHT, WRONG], "tasks a", 2, tmp_path, [ROLES])
    asked_again = [
        request for _, request in world.script.requests[before:] if request.trajectory.query == RIGHT.trajectory.query
    ]
    assert not asked_again
    assert "| **task success** | 50.0 % (1/2) |" in table(tmp_path)
    assert "| single call | 50.0 % (1/2) |" in (tmp_path / "table.md").read_text()


@pytest.mark.usefixtures("scripted_stack")
def test_results_of_other_tasks_or_weights_are_never_mixed(tmp_path: Path) -> None:
    evaluate.compare([RIGHT], "tasks a", 2, tmp_path, [ROLES])
    with pytest.raises(evaluate.OtherSubject, match=r"tasks a, not of .* tasks b"):
        evaluate.compare([RIGHT], "tasks b", 2, tmp_path, [ROLES])


@pytest.mark.usefixtures("scripted_stack")
def test_two_systems_are_compared_on_the_tasks_that_both_have_done(world: World, tmp_path: Path) -> None:
    evaluate.compare([RIGHT, EFFECT], "tasks a", 2, tmp_path, [ROLES])
    world.script.answer = "No idea."
    evaluate.compare([RIGHT], "tasks a", 2, tmp_path, [SINGLE])
    text = table(tmp_path)
    assert "| **task success** | 100.0 % (2/2) | 0.0 % (0/1) |" in text
    assert "three roles minus single model: +100.0 points" in text
    assert "over 1 tasks" in text
