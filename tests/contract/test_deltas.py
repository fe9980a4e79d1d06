"""Plans and answers that are read while they are written, through the gateway."""

import json
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.agent_client import chat, connect, respond
from tests.fakes import call, plan
from tests.world import World
from umi.client import AnswerDelta, Client, PlanDelta
from umi.roles import Role, Turn

ANSWER = "The sum of 2 and 3 is 5, as the tool says."
PLANS = [plan(Turn.CALLER, "I have to add 2 and 3."), plan(Turn.CONCLUSION, "The sum is known, so I can answer.")]
TEXT, THOUGHT = "response.output_text.delta", "response.reasoning_summary_text.delta"


@dataclass(frozen=True)
class Told:
    """A server-sent event."""

    id: str
    type: str
    seq: int
    data: dict[str, Any]

    @property
    def is_part(self) -> bool:
        return self.type.endswith(".delta")


@pytest.fixture
def speaking(world: World) -> World:
    """Roles that tell their texts word by word."""
    world.script.calls, world.script.plans, world.script.answer = [call("add", a=2, b=3)], PLANS, ANSWER
    world.script.seconds_per_word = 0.01
    return world


def told(lines: Iterator[str]) -> Iterator[Told]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        fields[name] = value
        if name == "data":
            event = json.loads(value)
            assert event["type"] == fields["event"]
            yield Told(fields["id"], event["type"], event["seq"], event["data"])


def streamed(world: World) -> list[Told]:
    with world.client.stream("POST", "/v1/queries", json={"query": "q", "stream": True}) as response:
        return list(told(response.iter_lines()))


def resumed(gateway: str, run_id: str, after: str = "-1") -> list[Told]:
    url, headers = f"{gateway}/v1/runs/{run_id}/events", {"last-event-id": after}
    with httpx.stream("GET", url, headers=headers, trust_env=False, timeout=20) as response:
        assert response.status_code == 200
        return list(told(response.iter_lines()))


def newest(world: World) -> str:
    return world.client.get("/v1/runs?limit=1").json()["runs"][0]["run_id"]


def whole(events: Iterable[Told]) -> list[Told]:
    return [event for event in events if not event.is_part]


def texts(events: Iterable[Told]) -> dict[int, str]:
    """The texts that the parts make, by the number of the event that has the whole."""
    found = dict[int, str]()
    for event in events:
        if event.is_part:
            found[event.seq] = found.get(event.seq, "")[: event.data["offset"]] + event.data["text"]
    return found


def test_plans_and_the_answer_are_told_while_they_are_written_and_then_whole(speaking: World) -> None:
    events = streamed(speaking)
    kinds = ["run.created", "plan", "call", "observation", "plan", "run.completed"]
    assert [event.type for event in whole(events)] == kinds
    assert texts(events) == {1: PLANS[0].rationale, 4: PLANS[1].rationale, 5: ANSWER}
    parts = [event for event in events if event.type == "answer.delta"]
    assert len(parts) > 5
    assert parts[0].data["offset"] == 0
    assert ANSWER.startswith(parts[0].data["text"])
    assert events.index(parts[-1]) == len(events) - 2
    assert events[-1].data["answer"] == ANSWER


def test_what_is_stored_is_replayed_without_the_parts(speaking: World) -> None:
    live = whole(streamed(speaking))
    assert resumed(speaking.gateway, newest(speaking)) == live


def test_a_stream_that_breaks_anywhere_goes_on_there_with_nothing_lost_or_doubled(speaking: World) -> None:
    events = streamed(speaking)
    for number, event in enumerate(events[:-1]):
        rest = resumed(speaking.gateway, newest(speaking), event.id)
        assert whole(rest) == whole(events[number + 1 :])
        begun = {
            seq: text for seq, text in texts([*events[: number + 1], *rest]).items() if seq > event.seq - event.is_part
        }
        expected = texts(events)[event.seq] if event.is_part else None
        assert begun == ({event.seq: expected} if expected else {})
        doubled = [each for each in rest if each.is_part and each.data["offset"] == 0]
        assert not doubled


def test_a_stream_that_breaks_while_the_text_is_written_goes_on_in_the_middle_of_it(speaking: World) -> None:
    speaking.script.seconds_per_word = 0.1
    with speaking.client.stream("POST", "/v1/queries", json={"query": "q", "stream": True}) as response:
        reading = told(response.iter_lines())
        last = next(event for event in reading if event.type == "answer.delta" and event.data["offset"] > 3)
    read = last.data["offset"] + len(last.data["text"])
    rest = resumed(speaking.gateway, newest(speaking), last.id)
    assert len(rest) > 3
    assert rest[0].data["offset"] == read
    assert ANSWER[:read] + "".join(each.data["text"] for each in rest[:-1]) == ANSWER


def test_a_text_that_is_not_the_one_that_was_begun_is_told_from_its_beginning(speaking: World) -> None:
    streamed(speaking)
    first, last = resumed(speaking.gateway, newest(speaking), "4.7.00000000")
    assert (first.type, first.data) == ("answer.delta", {"offset": 0, "text": ANSWER})
    assert last.type == "run.completed"


@pytest.mark.parametrize("wrong", ["x", "4.", "4.7", "4.7.zzzzzzzz", "-2", "9" * 30, "4.7.00000000.1"])
def test_an_id_that_no_event_had_is_refused(speaking: World, wrong: str) -> None:
    streamed(speaking)
    response = speaking.client.get(f"/v1/runs/{newest(speaking)}/events", headers={"last-event-id": wrong})
    assert (response.status_code, response.json()["field"]) == (422, "last-event-id")


def test_roles_are_asked_for_whole_texts_when_nobody_reads_along(speaking: World) -> None:
    speaking.run()
    assert speaking.script.told == []


def test_who_comes_later_reads_along_from_the_next_text_on(speaking: World) -> None:
    speaking.script.delays[Role.CALLER] = 0.5
    run_id = speaking.client.post("/v1/queries", json={"query": "q", "background": True}).json()["run_id"]
    events = resumed(speaking.gateway, run_id)
    assert {seq: text for seq, text in texts(events).items() if seq > 1} == {4: PLANS[1].rationale, 5: ANSWER}


def test_another_gateway_that_shares_the_database_tells_the_events_whole(speaking: World) -> None:
    other = speaking.start()
    speaking.script.delays[Role.CALLER] = 0.3
    run_id = speaking.client.post("/v1/queries", json={"query": "q", "background": True}).json()["run_id"]
    assert [event.type for event in resumed(other, run_id)][-2:] == ["plan", "run.completed"]


def test_a_role_that_breaks_off_is_asked_again_and_its_text_begins_anew(speaking: World) -> None:
    speaking.script.stumbles = [(Role.PLANNER, "I have to divide")]
    events = streamed(speaking)
    assert texts(events)[1] == PLANS[0].rationale
    assert [event.data["offset"] for event in events if event.seq == 1 and event.is_part].count(0) >= 2
    assert events[-1].data["outcome"] == "answered"


def test_the_time_to_the_first_words_is_measured(speaking: World) -> None:
    before = first_texts(speaking)
    streamed(speaking)
    assert {role: count - before.get(role, 0) for role, count in first_texts(speaking).items()} == {
        "planner": 2,
        "summarizer": 1,
    }


def first_texts(world: World) -> dict[str, float]:
    found = re.findall(r'umi_first_text_seconds_count{role="(\w+)"} (\S+)', world.client.get("/metrics").text)
    return {role: float(count) for role, count in found}


def test_a_chat_gets_the_answer_in_the_parts_in_which_it_is_written(speaking: World) -> None:
    with connect(speaking.gateway) as client:
        parts = [text for chunk in chat(client, stream=True) if (text := chunk.choices[0].delta.content)]
    assert "".join(parts) == ANSWER
    assert len(parts) > 5


def test_a_chat_gets_plans_while_they_are_written_as_what_the_model_thinks(speaking: World) -> None:
    with connect(speaking.gateway) as client:
        chunks = list(chat(client, stream=True))
        thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks]
        whole = chat(client).choices[0].message.reasoning_content
    first, second = (each.rationale for each in PLANS)
    assert "".join(thoughts) == whole == f"{first}\n\n{second}"
    assert len([text for text in thoughts if text]) > 8
    assert not any(thoughts[next(n for n, chunk in enumerate(chunks) if chunk.choices[0].delta.content) :])


@pytest.mark.parametrize(("begun", "said"), [("The sum of 2", ANSWER), ("Oh", f"Oh\n\n{ANSWER}")])
def test_a_chat_whose_answer_was_begun_anew_repeats_nothing_unless_it_is_another(
    speaking: World, begun: str, said: str
) -> None:
    speaking.script.plans, speaking.script.stumbles = [plan(Turn.CONCLUSION)], [(Role.SUMMARIZER, begun)]
    with connect(speaking.gateway) as client:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chat(client, stream=True)) == said


def test_a_response_gets_its_texts_as_they_are_written_and_resumes_at_any_number(speaking: World) -> None:
    with connect(speaking.gateway) as client:
        events = list(respond(client, stream=True))
        assert told_by(events) == (PLANS[0].rationale + PLANS[1].rationale, ANSWER)
        assert min(sum(event.type == kind for event in events) for kind in (THOUGHT, TEXT)) > 5
        for number in range(len(events) - 1):
            after, run_id = events[number].sequence_number, events[0].response.id
            rest = list(client.responses.retrieve(run_id, stream=True, starting_after=after))
            whole = [*events[: number + 1], *rest]
            assert told_by(whole) == told_by(events)
            assert between_parts(whole) == between_parts(events)


def told_by(events: list[Any]) -> tuple[str, ...]:
    """The plans and the answer, put together from a response's parts."""
    return tuple("".join(event.delta for event in events if event.type == kind) for kind in (THOUGHT, TEXT))


def between_parts(events: list[Any]) -> list[tuple[str, int]]:
    """What a response's events are and their numbers, but for the parts of texts."""
    return [(event.type, event.sequence_number) for event in events if event.type not in {THOUGHT, TEXT}]


def test_a_plan_that_is_begun_anew_leaves_the_numbers_after_it_as_they_are(speaking: World) -> None:
    speaking.script.stumbles = [(Role.PLANNER, "I have to divide")]
    with connect(speaking.gateway) as client:
        events = list(respond(client, stream=True))
        again = list(client.responses.retrieve(events[0].response.id, stream=True))
    assert "I have to divide" in told_by(events)[0]
    assert told_by(again) == (PLANS[0].rationale + PLANS[1].rationale, ANSWER)
    assert between_parts(again) == between_parts(events)


def test_a_response_whose_time_is_up_in_the_middle_of_a_plan_closes_it(speaking: World) -> None:
    speaking.script.plans, speaking.script.seconds_per_word = [plan(Turn.CALLER, "word " * 100)], 0.05
    given: dict[str, Any] = {"model": "umi", "input": "q", "extra_body": {"umi": {"deadline_seconds": 1}}}
    with connect(speaking.gateway) as client, client.responses.stream(**given) as stream:
        events = list(stream)
        final = stream.get_final_response()
        assert final.output_text
        parts = [event for event in events if event.type == THOUGHT]
        assert len(parts) > 3
        (closed, _) = [event.item for event in events if event.type == "response.output_item.done"]
        assert (closed.type, closed.status) == ("reasoning", "incomplete")
        after = parts[-1].sequence_number
        rest = list(client.responses.retrieve(final.id, stream=True, starting_after=after))
    assert rest[-1].sequence_number == events[-1].sequence_number
    assert told_by(rest) == ("", final.output_text)


def test_a_response_that_fails_in_the_middle_of_its_answer_says_so_also_when_it_is_resumed(speaking: World) -> None:
    speaking.script.plans, speaking.script.stumbles = [plan(Turn.CONCLUSION)], [(Role.SUMMARIZER, "It is")] * 20
    with connect(speaking.gateway) as client:
        events = list(respond(client, stream=True))
        assert [event.type for event in events][-2:] == [TEXT, "response.failed"]
        run_id, after = events[0].response.id, events[-2].sequence_number
        (last,) = client.responses.retrieve(run_id, stream=True, starting_after=after)
    assert (last.type, last.sequence_number) == ("response.failed", events[-1].sequence_number)


def test_our_client_gives_the_parts_typed(speaking: World) -> None:
    with Client(speaking.gateway) as client:
        events = list(client.queries.stream("q"))
    plans = [event.data.text for event in events if isinstance(event.data, PlanDelta)]
    answer = [event.data.text for event in events if isinstance(event.data, AnswerDelta)]
    assert "".join(plans) == PLANS[0].rationale + PLANS[1].rationale
    assert "".join(answer) == ANSWER
    assert [event.is_part for event in events].count(False) == 6


def test_many_readers_of_one_run_all_read_the_whole(speaking: World) -> None:
    speaking.script.delays[Role.CALLER] = 0.5
    run_id = speaking.client.post("/v1/queries", json={"query": "q", "background": True}).json()["run_id"]
    found: list[str] = []
    reads = [
        threading.Thread(target=lambda: found.append(texts(resumed(speaking.gateway, run_id))[5])) for _ in range(8)
    ]
    for reading in reads:
        reading.start()
    for reading in reads:
        reading.join(20)
    assert found == [ANSWER] * 8
