"""Tasks: real observations, valid calls, splits that share nothing, and checks that tell right from wrong."""

import random
import re

import jsonschema
import pytest

from training.tasks import entities
from training.tasks.build import Builder
from training.tasks.entities import Entity, Split
from training.tasks.execute import Tools
from training.tasks.phrasing import expansions
from training.tasks.programs import INTENTS, answer
from training.tasks.task import Check, Kind, Task
from training.tasks.wordings import framed, nouns, wordings
from umi.roles import Turn
from umi.trajectory import Call

COUNTS = {Split.TRAIN: 60, Split.DEV: 40, Split.TEST: 40}


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools()


@pytest.fixture(scope="module")
def tasks(tools: Tools) -> list[Task]:
    return [task for split, count in COUNTS.items() for task in Builder(split, 11, tools).tasks(count, 2)]


def calls_of(task: Task) -> list[Call]:
    return [step.call for step in task.trajectory.steps if step.call]


def outcome_of(task: Task) -> str:
    return "gave_up" if task.answer is None else "answered"


def is_timeless(task: Task) -> bool:
    return "current_time" not in {call.tool for call in calls_of(task)}


def test_every_kind_of_task_is_made(tasks: list[Task]) -> None:
    assert {task.kind for task in tasks} == set(Kind)
    assert [task.id for task in tasks][:2] == ["train-00000", "train-00001"]


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others(tasks: list[Task], tools: Tools) -> None:
    again = list(Builder(Split.DEV, 11, tools).tasks(12, 2))
    first = [task for task in tasks if task.split is Split.DEV][:12]
    pairs = [(a, b) for a, b in zip(first, again, strict=True) if is_timeless(a)]
    assert len(pairs) > 8
    assert all(a == b for a, b in pairs)
    other = [task.trajectory.query for task in Builder(Split.DEV, 12, tools).tasks(12, 2)]
    assert other != [task.trajectory.query for task in again]


def test_every_observation_is_what_the_tool_really_says(tasks: list[Task], tools: Tools) -> None:
    for task in filter(is_timeless, tasks):
        tools.reset()
        for call in task.setup:
            assert tools.call(call.tool, call.arguments)[0] < 500
        for step in task.trajectory.steps:
            if step.call:
                assert tools.call(step.call.tool, step.call.arguments)[2] == step.observation, task.id


def test_every_call_is_of_an_offered_tool_with_valid_arguments_in_the_order_of_its_schema(tasks: list[Task]) -> None:
    for task in tasks:
        offered = {tool.name: tool for tool in task.trajectory.tools}
        assert len(offered) == len(task.trajectory.tools) <= 8
        for call in calls_of(task):
            schema = offered[call.tool].parameters
            jsonschema.validate(call.arguments, schema)
            assert list(call.arguments) == [name for name in schema["properties"] if name in call.arguments]


def test_trajectories_end_in_a_plan_that_fits_their_answer(tasks: list[Task]) -> None:
    for task in tasks:
        *before, last = task.trajectory.steps
        assert all(step.plan.turn is Turn.CALLER and step.call and step.observation is not None for step in before)
        assert last.plan.turn is (Turn.GIVE_UP if task.answer is None else Turn.CONCLUSION)
        assert last.call is None is last.observation


def test_every_reference_answer_passes_its_own_check(tasks: list[Task]) -> None:
    for task in tasks:
        succeeded = [s.call for s in task.trajectory.steps if s.call and not (s.observation or "").startswith("Error")]
        assert task.check.passes(outcome_of(task), task.answer, succeeded), task.id


def test_no_wrong_end_passes_a_check(tasks: list[Task]) -> None:
    for task in tasks:
        assert not task.check.passes("failed", task.answer, calls_of(task))
        if task.check.gives_up:
            assert not task.check.passes("answered", "I do not know.", [])
        else:
            assert not task.check.passes("gave_up", None, calls_of(task))
            assert not task.check.passes("answered", "I do not know.", []), task.id
            assert not task.check.passes("answered", "", calls_of(task))


def test_the_tool_that_a_task_gives_up_for_is_never_offered(tasks: list[Task]) -> None:
    ending = ", no tool is offered."
    lacking = [task for task in tasks if task.trajectory.steps[-1].plan.rationale.endswith(ending)]
    facts = [task for task in lacking if task.intent in INTENTS and not calls_of(task)]
    assert len(facts) > 2
    for task in facts:
        slots = {
            slot: Entity("", "x") if kind == "paired" else entities.draw(kind, task.split, random.Random(1))
            for slot, kind in INTENTS[task.intent].slots.items()
        }
        wanted = next(answer(task.intent, slots, [])).tool
        assert task.check.gives_up
        assert wanted not in {tool.name for tool in task.trajectory.tools}, task.id


# splits


def test_the_splits_share_no_wording() -> None:
    for intent in [*INTENTS, "out_of_scope"]:
        parts = [set(wordings(intent, split)) for split in Split]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)), intent
    for parts in nouns().values():
        learnt = {text for phrase in parts["train"] for text in expansions(phrase)}
        assert not learnt & {text for phrase in parts["unseen"] for text in expansions(phrase)}


@pytest.mark.parametrize("intent", INTENTS)
def test_a_phrase_in_a_frame_is_never_a_question_of_the_splits_that_judge(intent: str) -> None:
    rng = random.Random(5)
    made = {framed(intent, rng).lower().rstrip("?.! ") for _ in range(60)}
    judging = (text for split in (Split.DEV, Split.TEST) for text in wordings(intent, split))
    assert len(made) > 20
    assert not made & {text.lower().rstrip("?.! ") for template in judging for text in expansions(template)}


@pytest.mark.parametrize("kind", ["country", "city", "airport", "element", "language", "currency", "date", "title"])
def test_the_splits_share_no_entity(kind: str) -> None:
    rng = random.Random(3)
    drawn = {split: {str(entities.draw(kind, split, rng).value) for _ in range(150)} for split in Split}
    assert all(len(found) > 1 for found in drawn.values())
    assert not drawn[Split.TRAIN] & drawn[Split.DEV]
    assert not drawn[Split.TRAIN] & drawn[Split.TEST]
    assert not drawn[Split.DEV] & drawn[Split.TEST]


def test_the_splits_share_no_holiday() -> None:
    rng = random.Random(3)
    drawn = {split: {entities.holiday(split, rng) for _ in range(100)} for split in Split}
    assert not set.union(*(drawn[split] for split in (Split.DEV, Split.TEST))) & drawn[Split.TRAIN]


def test_no_query_stands_in_two_splits(tasks: list[Task]) -> None:
    said = {split: {task.trajectory.query for task in tasks if task.split is split} for split in Split}
    assert not said[Split.TRAIN] & (said[Split.DEV] | said[Split.TEST])
    assert all(not re.search(r"[{}\[\]|]", query) for queries in said.values() for query in queries)


# checks


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ("1234567", "It has 1,234,567 people.", True),
        ("1234567", "It has 1234568 people.", True),
        ("1234567", "It has 1,244,567 people.", False),
        ("1234567", "It has 1.23 million people.", False),
        ("3.5", "About 3.50 km", True),
        ("3.5", "About 35 km", False),
        ("-3", "It is -3.", True),
        ("-3", "It is 3.", False),
        ("0", "There are 0.", True),
        ("0", "There is 1.", False),
        ("12", "In 2012.", False),
        ("1e-05", "It is 1e-05.", True),
        ("Oslo", "The capital is oslo.", True),
        ("Oslo", "The capital is Oslofjord.", False),
        ("Fe", "Iron", False),
        ("Fe", "Its symbol is Fe.", True),
        ("2026-11-23", "On 2026-11-23.", True),
        ("Asia/Tokyo", "It is Asia/Tokyo.", True),
        ("€", "The symbol is €.", True),
        ("A. B. (C)", "It is A. B. (C)", True),
    ],
)
def test_numbers_match_by_value_and_words_at_their_borders(expected: str, answer: str, right: bool) -> None:
    assert Check(expected=(expected,)).passes("answered", answer, []) is right


def test_all_that_is_expected_must_be_there() -> None:
    check = Check(expected=("French", "German"))
    assert check.passes("answered", "German and French.", [])
    assert not check.passes("answered", "French.", [])


def test_a_rival_before_the_winner_is_wrong_and_after_it_right() -> None:
    check = Check(expected=("Gold",), rivals=("Iron", "Carbon"))
    assert check.passes("answered", "Gold, not Iron.", [])
    assert check.passes("answered", "Gold.", [])
    assert not check.passes("answered", "Iron is lighter than Gold.", [])
    assert not check.passes("answered", "Iron.", [])


def test_an_effect_needs_the_call_and_admits_further_arguments() -> None:
    check = Check(effect=Call(tool="add_todo", arguments={"title": "Buy milk"}))
    made = Call(tool="add_todo", arguments={"title": " buy MILK", "due": "2031-01-01"})
    assert check.passes("answered", "Done.", [made])
    assert not check.passes("answered", "Done.", [])
    assert not check.passes("answered", "Done.", [Call(tool="add_todo", arguments={"title": "buy oat milk"})])
    assert not check.passes("answered", "Done.", [Call(tool="delete_todo", arguments={"title": "buy milk"})])
    assert not check.passes("gave_up", None, [made])
