"""Programs and their telling: what a good agent would have said, from what the tools really answered."""

from typing import Any

import pytest

from training.tasks.entities import Entity, Split
from training.tasks.execute import Story, Tools, tell
from training.tasks.programs import INTENTS, Nested, Notes, Slot, answer, text_of
from training.tasks.wordings import frames, nouns, phrases, wordings
from umi.roles import Turn


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools()


def story(tools: Tools, intent: str, without: str = "", **slots: Slot | str | int | list[str]) -> Story:
    given = {k: v if isinstance(v, Nested) else Entity(str(v), v) for k, v in slots.items()}  # type: ignore[arg-type]
    notes: Notes = []
    return tell(answer(intent, given, notes), notes, tools, set(tools.operations) - {without})


def calls(told: Story) -> list[tuple[str, dict[str, object]]]:
    return [(step.call.tool, step.call.arguments) for step in told.steps if step.call]


def test_one_call_answers_a_fact(tools: Tools) -> None:
    told = story(tools, "capital", country="Japan")
    assert calls(told) == [("country_facts", {"country": "Japan"})]
    assert told.found is not None
    assert (told.found.answer, told.found.expected) == ("The capital of Japan is Tokyo.", ("Tokyo",))
    assert [step.plan.turn for step in told.steps] == [Turn.CALLER, Turn.CONCLUSION]
    assert told.steps[0].plan.rationale == "To find the capital of Japan, use country_facts."
    assert "Tokyo" in told.steps[1].plan.rationale


def test_a_nested_slot_is_found_out_first(tools: Tools) -> None:
    told = story(tools, "city_population", city=Nested("capital", {"country": Entity("", "Norway")}))
    assert calls(told) == [("country_facts", {"country": "Norway"}), ("city_facts", {"city": "Oslo"})]
    assert told.steps[1].plan.rationale.startswith("The capital of Norway is Oslo. To find")


def test_a_comparison_names_the_winner_and_its_rivals(tools: Tools) -> None:
    told = story(tools, "compare_mass", items=["Iron", "Gold", "Carbon"])
    assert told.found is not None
    assert (told.found.expected, told.found.rivals) == (("Gold",), ("Iron", "Carbon"))
    assert len(calls(told)) == 3


@pytest.mark.parametrize(
    ("intent", "slots", "said"),
    [
        (
            "compare_mass",
            {"items": ["Carbon", "Gold"]},
            "12.011 has 2 digits, Gold 196.967 has 3: Gold is more. ",
        ),
        (
            "compare_mass",
            {"items": ["Gold", "Carbon"]},
            "196.967 has 3 digits, Carbon 12.011 has 2: Gold is more. ",
        ),
        ("compare_mass", {"items": ["Gold", "Gold"]}, "they are equal. "),
        ("compare_distance", {"items": ["Lyon", "Tokyo"], "a": "Paris"}, ": Lyon is less. "),
    ],
)
def test_a_comparison_puts_two_numbers_and_their_digits_side_by_side_before_its_verdict(
    tools: Tools, intent: str, slots: dict[str, Any], said: str
) -> None:
    told = story(tools, intent, **slots)
    assert said in told.steps[-1].plan.rationale + " "


def test_a_suggested_name_is_used_from_then_on(tools: Tools) -> None:
    told = story(tools, "city_population", city="Madrdi")
    assert [arguments["city"] for _, arguments in calls(told)] == ["Madrdi", "Madrid"]
    assert told.corrected
    assert "suggests 'Madrid'" in told.steps[1].plan.rationale
    assert told.found is not None
    assert told.found.answer.startswith("Madrid has")


def test_a_missing_tool_ends_in_giving_up_before_it_is_called(tools: Tools) -> None:
    told = story(tools, "population_density", without="calculate", country="Japan")
    assert told.found is None
    assert [tool for tool, _ in calls(told)] == ["country_facts"]
    assert told.steps[-1].plan.turn is Turn.GIVE_UP
    assert "no tool is offered" in told.steps[-1].plan.rationale


def test_an_error_without_a_suggestion_ends_in_giving_up(tools: Tools) -> None:
    told = story(tools, "capital", country="Qqqqqqqq")
    assert told.found is None
    assert told.steps[-1].plan.turn is Turn.GIVE_UP
    assert "The tool says: " in told.steps[-1].plan.rationale


def test_a_taken_room_is_replaced_by_a_free_one(tools: Tools) -> None:
    tools.reset()
    wish = {"room": "Amber", "date": "2031-03-03", "hour": 9, "name": "Ada"}
    assert tools.call("book_room", wish)[0] < 400
    told = story(tools, "book_any", **wish)
    first, second = (arguments for _, arguments in calls(told))
    assert first["room"] == "Amber" != second["room"]
    assert told.found is not None
    assert str(second["room"]) in told.found.answer
    assert told.corrected


@pytest.mark.parametrize(
    ("value", "said"),
    [(3.0, "3"), (3.25, "3.25"), (True, "yes"), (False, "no"), (["a", 2.0], "a, 2"), (1e20, "1e+20"), (7, "7")],
)
def test_values_are_said_as_people_write_them(value: object, said: str) -> None:
    assert text_of(value) == said


def test_every_intent_has_wordings_in_every_split_that_name_all_its_slots() -> None:
    for name, intent in INTENTS.items():
        for split in Split:
            found = wordings(name, split)
            assert found, (name, split)
            for text in found:
                missing = {slot for slot in intent.slots if "{" + slot + "}" not in text}
                assert not missing, (name, text, missing)


def test_noun_phrases_name_all_slots_of_their_intent() -> None:
    for name, parts in nouns().items():
        for phrase in (*parts["train"], *parts["unseen"]):
            assert {slot for slot in INTENTS[name].slots if "{" + slot + "}" not in phrase} == set(), phrase


def test_every_intent_has_phrases_for_frames_that_name_all_its_slots() -> None:
    assert phrases().keys() == INTENTS.keys()
    for name, kinds in phrases().items():
        assert kinds.keys() <= frames().keys()
        for phrase in (phrase for some in kinds.values() for phrase in some):
            missing = {slot for slot in INTENTS[name].slots if "{" + slot + "}" not in phrase}
            assert not missing, (name, phrase, missing)
    assert all("{it}" in frame for some in frames().values() for frame in some)
