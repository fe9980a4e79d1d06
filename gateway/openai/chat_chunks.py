"""A run's events as the chunks of a chat completion.

The role comes first, then a chunk for each plan, call and observation, then the answer while it is written, then the
finish reason with the whole run in `umi`; with `include_usage` one more chunk, without choices; then `[DONE]`. A run
that waits for approval ends its stream like that too, with a statement in place of the answer.

Plans come while they are written as well, as `reasoning_content`: OpenAI has no field for what a model thinks, and
this is the one that most servers and clients of its API have agreed on.
"""

from collections.abc import Iterator

from gateway.deltas import ANSWER_DELTA, PLAN_DELTA, Delta
from gateway.events import Event, Planned, RequiresAction, RunCompleted, RunCreated
from gateway.openai.bodies import MODEL
from gateway.openai.chat_results import BETWEEN_PLANS, completion_id, finish_reason, usage_of
from gateway.openai.endings import extension, text_of
from gateway.openai.errors import error_of
from gateway.openai.runs import frame
from gateway.openai.spoken import Spoken
from gateway.views import fold
from umi.trajectory import JsonObject


class Chunks:
    """Turns one run's events, in order, into frames."""

    def __init__(self, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._events: list[Event] = []
        self._plan, self._answer = Spoken(), Spoken()

    def frames(self, event: Event | Delta) -> Iterator[str]:
        """The frames that `event` adds."""
        if isinstance(event, Delta):
            if event.type == ANSWER_DELTA and (text := self._answer.more(event.data)):
                yield self._chunk({"content": text})
            elif event.type == PLAN_DELTA and (text := self._plan.more(event.data)):
                yield self._chunk({"reasoning_content": text})
            return
        self._events.append(event)
        match event.data:
            case RunCompleted():
                yield from self._end()
            case RunCreated():
                yield self._chunk({"role": "assistant", "content": ""}, {"run_id": event.run_id})
            case Planned(plan=plan):
                text, self._plan = self._plan.rest(plan.rationale), Spoken(BETWEEN_PLANS)
                yield self._happened(event, {"reasoning_content": text} if text else None)
            case RequiresAction():
                yield self._happened(event)
                yield from self._end()
            case _:
                yield self._happened(event)

    def _happened(self, event: Event, delta: JsonObject | None = None) -> str:
        return self._chunk(delta or {}, {"run_id": event.run_id, "event": event.model_dump(mode="json")})

    def _end(self) -> Iterator[str]:
        view = fold(self._events)
        if view.problem is not None:
            yield frame(error_of(view.problem.model_dump(mode="json")))
            return
        if text := self._answer.rest(text_of(view)):
            yield self._chunk({"content": text})
        yield self._chunk({}, extension(view), finish_reason(view))
        if self._with_usage:
            yield frame({**self._base(), "choices": [], "usage": usage_of(view)})
        yield "data: [DONE]\n\n"

    def _base(self) -> JsonObject:
        first = self._events[0]
        return {
            "id": completion_id(first.run_id),
            "object": "chat.completion.chunk",
            "created": int(first.at),
            "model": MODEL,
        }

    def _chunk(self, delta: JsonObject, umi: JsonObject | None = None, reason: str | None = None) -> str:
        choice: JsonObject = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self._base(), "choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        return frame(chunk if umi is None else {**chunk, "umi": umi})
