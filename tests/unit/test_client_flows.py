"""What the client sends again, when, and what it does not: the flows without any network."""

import json
from typing import Any

import pytest

from umi.client import NotConnected, NotFound, NotUnderstood, Patience, RunFailed, TooMany, Unavailable, requests
from umi.client.flows import Broken, Emit, End, Pause, Read, Reply, Send, advance, exchange, follow
from umi.sse import Message, Parser

PATIENCE = Patience(retries=2, resume_seconds=3.0)


def problem(status: int, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    body = {"type": "x", "title": "X", "status": status, "detail": "It is so.", **fields}
    return Reply(status, headers or {}, json.dumps(body).encode())


def message(seq: int, kind: str = "tools") -> bytes:
    data = {"step": 1, "tools": []} if kind == "tools" else {"outcome": "answered"}
    event = {"run_id": "r", "seq": seq, "type": kind, "at": 0.0, "data": data}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()


def walk(flow: Any, *answers: object) -> list[Any]:
    """The flow's steps; each answer belongs to the next step that wants one."""
    left, steps = list(answers), [advance(flow, None)]
    while not isinstance(steps[-1], End):
        steps.append(advance(flow, left.pop(0) if isinstance(steps[-1], Send | Read) else None))
    assert not left
    return steps


def test_a_busy_gateway_is_asked_the_same_again_after_the_time_it_names() -> None:
    asked = requests.start("q")
    run = {"run_id": "r", "created_at": 0, "query": "q", "tools": [], "max_steps": 8, "deadline_seconds": 120}
    steps = walk(
        exchange(asked, PATIENCE),
        problem(429, {"retry-after": "7"}),
        Broken("cut"),
        Reply(202, {}, json.dumps(run).encode()),
    )
    assert [type(step) for step in steps] == [Send, Pause, Send, Pause, Send, End]
    assert steps[1].seconds == 7
    assert {step.request.headers["idempotency-key"] for step in steps if isinstance(step, Send)} == {
        asked.headers["idempotency-key"]
    }
    assert steps[-1].value.run_id == "r"
    assert requests.start("q").headers != asked.headers


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([Broken("cut")] * 3, NotConnected),
        ([problem(503)] * 3, Unavailable),
        ([problem(404)], NotFound),
        ([problem(503, run_id="r", role="planner", retry_after=1.0)], RunFailed),
        ([problem(429, retry_after=3600.0)], TooMany),
        ([Reply(200, {}, b"<html>")], NotUnderstood),
    ],
)
def test_what_another_try_cannot_or_did_not_help_is_an_error(replies: list[object], error: type[Exception]) -> None:
    with pytest.raises(error):
        walk(exchange(requests.ask("q"), PATIENCE), *replies)


def test_a_refusal_says_what_the_problem_says_whatever_shape_it_has() -> None:
    with pytest.raises(TooMany) as raised:
        walk(exchange(requests.tools(), Patience(retries=0)), problem(429, {"retry-after": "9"}, field="f"))
    assert (str(raised.value), raised.value.field, raised.value.retry_after) == ("It is so.", "f", 9.0)
    openai = {"error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}
    with pytest.raises(NotFound) as told:
        walk(exchange(requests.models(), PATIENCE), Reply(404, {}, json.dumps(openai).encode()))
    assert (str(told.value), told.value.type, told.value.field) == ("No.", "model_not_found", "model")
    with pytest.raises(Unavailable, match="bare 502"):
        walk(exchange(requests.models(), Patience(retries=0)), Reply(502, {}, b"<html>Bad Gateway"))


def test_deleting_what_a_lost_answer_has_deleted_is_no_error() -> None:
    assert walk(exchange(requests.delete_run("r"), PATIENCE), Broken("cut"), problem(404))[-1] == End(None)
    with pytest.raises(NotFound):
        walk(exchange(requests.delete_run("r"), PATIENCE), problem(404))


def test_a_broken_stream_goes_on_after_the_last_event_that_was_whole() -> None:
    steps = walk(
        follow(requests.stream("q"), PATIENCE),
        *(Reply(200, {}), message(0) + message(1)[:20], Broken("cut")),
        *(Reply(200, {}), message(0) + message(1), b""),
        *(problem(503), Reply(200, {}), message(2, "run.completed")),
    )
    sent = [step.request for step in steps if isinstance(step, Send)]
    assert [(each.method, each.headers.get("last-event-id")) for each in sent] == [
        ("POST", None),
        ("GET", "0"),
        ("GET", "1"),
        ("GET", "1"),
    ]
    assert [step.value.seq for step in steps if isinstance(step, Emit)] == [0, 1, 2]


def test_a_stream_that_breaks_before_its_first_event_begins_the_same_run_again() -> None:
    steps = walk(
        follow(requests.stream("q"), PATIENCE),
        *(Reply(200, {}), message(0)[:30], Broken("cut"), Reply(200, {}), message(0, "run.completed")),
    )
    sent = [step.request for step in steps if isinstance(step, Send)]
    assert sent[0] is sent[1]


def test_a_stream_that_cannot_be_resumed_says_which_run_goes_on() -> None:
    flow, answer, pauses = follow(requests.stream("q"), PATIENCE), None, 0.0
    answers = iter([Reply(200, {}), message(0)])
    with pytest.raises(NotConnected) as raised:
        while True:
            step = advance(flow, answer)
            pauses += step.seconds if isinstance(step, Pause) else 0.0
            answer = next(answers, Broken("cut")) if isinstance(step, Send | Read) else None
    assert (raised.value.run_id, pauses > PATIENCE.resume_seconds) == ("r", True)


def test_a_run_that_has_nothing_more_to_tell_is_no_broken_stream() -> None:
    assert [type(step) for step in walk(follow(requests.events("r", 5), PATIENCE), Reply(204, {}))] == [Send, End]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_read_whatever_pieces_they_come_in(size: int) -> None:
    sent = ": hello\r\n\r\nid: 1\r\ndata: ä\r\ndata:b\r\n\r\nevent: x\n\ndata: c\n\ndata: lost".encode()
    parser = Parser()
    pieces = [sent[first : first + size] for first in range(0, len(sent), size)]
    assert [text for piece in pieces for text in parser.feed(piece)] == [Message("ä\nb", "1"), Message("c", "1")]


@pytest.mark.parametrize("run_id", ["", ".", ".."])
def test_an_id_that_would_be_another_path_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="neither an id nor a name"):
        requests.run(run_id)
    assert requests.run("a/b?c").path == "/v1/runs/a%2Fb%3Fc"
