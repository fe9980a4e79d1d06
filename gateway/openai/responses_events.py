"""A run's events as the event sequence of a response.

Each event of the run adds the same events with the same sequence numbers whenever it is read, so a stream that broke
off is taken up again with `GET /v1/responses/{id}?stream=true&starting_after=N`. Plans and the answer come while they
are written, in parts of any size: each character takes a number, and a part has its last one's. A plan may be begun
anew, or end with its run, and one reader may see more of that than another: the numbers after it go on at a fixed
distance. An approval request completes the sequence; the decision begins it anew, with the next number.
"""

from collections.abc import Iterator

from gateway.deltas import ANSWER_DELTA, PLAN_DELTA, Delta
from gateway.events import (
    Approval,
    Called,
    Event,
    Observed,
    Offered,
    Planned,
    RequiresAction,
    RunCompleted,
    Sending,
    ToolOutcome,
)
from gateway.openai.endings import text_of
from gateway.openai.responses_results import (
    Asked,
    approval_item,
    call_item,
    call_status,
    message_item,
    reasoning_item,
    response_of,
)
from gateway.openai.runs import frame
from gateway.openai.spoken import Spoken
from gateway.views import fold
from umi.roles import Turn
from umi.trajectory import JsonObject

_TEXT, _THOUGHT = "response.output_text.delta", "response.reasoning_summary_text.delta"
_PLAN = 100_000
"""How many numbers a plan takes; far more than it has characters."""


class Sequence:
    """Turns one run's events, in order, into frames.

    Those up to the number `starting_after` are left out, and those of events before number `decided` of the log.
    """

    def __init__(self, asked: Asked, starting_after: int = -1, decided: int = 0) -> None:
        self._asked, self._after, self._decided = asked, starting_after, decided
        self._events: list[Event] = []
        self._number = -1
        self._index = -1
        self._called: Called | None = None
        self._open = False
        """Whether that call's item is there, the newest, and its observation has not come yet."""
        self._answer, self._plan = Spoken(), Spoken()
        self._place: JsonObject | None = None
        """Of the message, once it has been begun."""
        self._thought: JsonObject | None = None
        """The place of the plan, while it is written."""
        self._steps, self._before_plan = 0, -1

    def frames(self, event: Event | Delta) -> Iterator[str]:
        """The frames that `event` adds."""
        if not isinstance(event, Delta):
            self._events.append(event)
        for kind, data in self._of_delta(event) if isinstance(event, Delta) else self._of(event):
            before, is_text = self._number, kind in {_TEXT, _THOUGHT}
            self._number += len(data["delta"]) if is_text else 1
            if is_text:
                data["delta"] = data["delta"][max(0, self._after - before) :]
            if self._number > self._after and event.seq >= self._decided:
                yield frame({"type": kind, "sequence_number": self._number, **data}, kind)

    def _of_delta(self, delta: Delta) -> Iterator[tuple[str, JsonObject]]:
        if delta.type == ANSWER_DELTA and (text := self._answer.more(delta.data)):
            if self._place is None:
                yield from self._begin_message()
            yield self._text(text)
        elif delta.type == PLAN_DELTA and (text := self._plan.more(delta.data)):
            if self._thought is None:
                yield from self._begin_plan()
            yield self._thinks(text)

    def _of(self, event: Event) -> Iterator[tuple[str, JsonObject]]:
        match event.data:
            case Planned() as planned:
                yield from self._planned(planned.plan.rationale)
            case Called() as called:
                self._called = called
                if not called.needs_approval:
                    yield from self._sent(called)
            case RequiresAction() as asked:
                item = approval_item(event.run_id, asked.step, asked.call, asked.toolset)
                yield from self._whole(item)
                yield "response.completed", {"response": self._response()}
            case Approval() as approval:
                yield from self._begin()
                if approval.approve and self._called is not None:
                    yield from self._sent(self._called)
            case Observed() as observed if self._open:
                yield from self._observed(observed.outcome, observed.observation)
            case Observed() | Offered() | Sending():
                return  # OpenAI's clients know of no such thing; the plan that follows tells
            case RunCompleted():
                yield from self._end()
            case _:
                yield from self._begin()

    def _begin(self) -> Iterator[tuple[str, JsonObject]]:
        response = self._response()
        response["output"] = response["output"][: self._index + 1]  # an approved call's item is yet to come
        for kind in ("created", "in_progress"):
            yield f"response.{kind}", {"response": response}

    def _whole(self, item: JsonObject) -> Iterator[tuple[str, JsonObject]]:
        self._index += 1
        for kind in ("added", "done"):
            yield f"response.output_item.{kind}", {"output_index": self._index, "item": item}

    def _begin_plan(self) -> Iterator[tuple[str, JsonObject]]:
        self._before_plan = self._number
        self._index += 1
        self._steps += 1
        item = self._plan_item("", "in_progress")
        self._thought = {"output_index": self._index, "item_id": item["id"], "summary_index": 0}
        yield "response.output_item.added", {"output_index": self._index, "item": {**item, "summary": []}}
        yield "response.reasoning_summary_part.added", {**self._thought, "part": item["summary"][0]}

    def _thinks(self, text: str) -> tuple[str, JsonObject]:
        assert self._thought is not None
        return _THOUGHT, {**self._thought, "delta": text}

    def _planned(self, rationale: str) -> Iterator[tuple[str, JsonObject]]:
        if self._thought is None:
            yield from self._begin_plan()
        if rest := self._plan.rest(rationale):
            yield self._thinks(rest)
        yield from self._end_plan(rationale, "completed")

    def _end_plan(self, text: str, status: str) -> Iterator[tuple[str, JsonObject]]:
        assert self._thought is not None
        item, place = self._plan_item(text, status), self._thought
        self._thought, self._plan = None, Spoken()
        self._number = max(self._number, self._before_plan + _PLAN - 3)
        yield "response.reasoning_summary_text.done", {**place, "text": text}
        yield "response.reasoning_summary_part.done", {**place, "part": item["summary"][0]}
        yield "response.output_item.done", {"output_index": self._index, "item": item}

    def _give_plan_up(self) -> Iterator[tuple[str, JsonObject]]:
        """The run ended before a plan did, which only those know of who read on meanwhile."""
        if self._thought is None:
            self._number += _PLAN
        else:
            yield from self._end_plan(self._plan.text, "incomplete")

    def _plan_item(self, text: str, status: str) -> JsonObject:
        return {**reasoning_item(self._events[0].run_id, self._steps, text), "status": status}

    def _sent(self, called: Called) -> Iterator[tuple[str, JsonObject]]:
        self._index += 1
        self._open = True
        item = self._item(called, "in_progress", None)
        place = {"output_index": self._index, "item_id": item["id"]}
        yield "response.output_item.added", {"output_index": self._index, "item": {**item, "arguments": ""}}
        yield "response.mcp_call.in_progress", place
        yield "response.mcp_call_arguments.done", {**place, "arguments": item["arguments"]}

    def _observed(self, outcome: ToolOutcome | None, observation: str | None) -> Iterator[tuple[str, JsonObject]]:
        assert self._called is not None
        item = self._item(self._called, call_status(outcome), observation)
        self._open = False
        kind = "completed" if outcome is ToolOutcome.OK else "failed"
        yield f"response.mcp_call.{kind}", {"output_index": self._index, "item_id": item["id"]}
        yield "response.output_item.done", {"output_index": self._index, "item": item}

    def _end(self) -> Iterator[tuple[str, JsonObject]]:
        if self._open:
            yield from self._observed(None, None)
        before = self._events[-2].data
        if not (isinstance(before, Planned) and before.plan.turn is Turn.CONCLUSION):
            yield from self._give_plan_up()
        response = self._response()
        if response["status"] == "completed":
            yield from self._end_message(text_of(fold(self._events)))
        else:  # a reader may have seen more numbers than it takes without the message that was begun
            self._number = max(self._number, self._after)
        yield f"response.{response['status']}", {"response": response}

    def _begin_message(self) -> Iterator[tuple[str, JsonObject]]:
        self._index += 1
        item = message_item(self._events[0].run_id, "")
        self._place = {"output_index": self._index, "item_id": item["id"], "content_index": 0}
        started = {**item, "status": "in_progress", "content": []}
        yield "response.output_item.added", {"output_index": self._index, "item": started}
        yield "response.content_part.added", {**self._place, "part": item["content"][0]}

    def _text(self, text: str) -> tuple[str, JsonObject]:
        assert self._place is not None
        return _TEXT, {**self._place, "delta": text, "logprobs": []}

    def _end_message(self, text: str) -> Iterator[tuple[str, JsonObject]]:
        if self._place is None:
            yield from self._begin_message()
        assert self._place is not None
        if rest := self._answer.rest(text):
            yield self._text(rest)
        item = message_item(self._events[0].run_id, text)
        yield "response.output_text.done", {**self._place, "text": text, "logprobs": []}
        yield "response.content_part.done", {**self._place, "part": item["content"][0]}
        yield "response.output_item.done", {"output_index": self._index, "item": item}

    def _response(self) -> JsonObject:
        return response_of(fold(self._events), self._asked)

    def _item(self, called: Called, status: str, observation: str | None) -> JsonObject:
        return call_item(
            self._events[0].run_id,
            called.step,
            called.call,
            called.toolset,
            status,
            observation,
            called.needs_approval,
        )
