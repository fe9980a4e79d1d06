"""Runs behind OpenAI's APIs: begun like every other, and sent as server-sent events in a shape of their own."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable

from fastapi.responses import StreamingResponse

from gateway.deltas import Delta
from gateway.events import Approval, Event, RequiresAction
from gateway.openai.bodies import Options
from gateway.parts import Gateway
from gateway.store import Key
from gateway.views import RunView, fold
from umi.errors import BadInput, UnknownTool
from umi.trajectory import JsonObject
from umi.wire import RUN_ID


async def begin(gateway: Gateway, key: Key, query: str, options: Options, is_watched: bool = False) -> str:
    """Begin a run and return its id; `is_watched`: its answer is read while it is written.

    Raises BadInput when there is no tool to offer.
    """
    catalogue = gateway.registry.catalogue(key.tenant)
    try:
        tools = await catalogue.offer(query, options.tools, gateway.settings.max_offered)
    except UnknownTool as error:
        raise UnknownTool(f"{error}; GET /v1/tools lists them", "umi.tools") from error
    if not tools:
        raise BadInput("no tools to offer: register a toolset first, or name at least one tool", "umi.tools")
    more = catalogue if options.tools is None else None
    return await gateway.runs.start(
        key, query, tools, options.max_steps, options.deadline_seconds, catalogue=more, is_watched=is_watched
    )


async def look(gateway: Gateway, key: Key, run_id: str) -> RunView | None:
    """The run as it is now; None when the key's tenant has none of that id."""
    if not re.match(RUN_ID, run_id):
        return None
    events = await gateway.store.runs.events_of(key.tenant, run_id)
    return fold(events) if events else None


async def finish(gateway: Gateway, run_id: str) -> RunView:
    """The run, once it has ended or waits for approval."""
    return fold(await gateway.runs.settled(run_id))


async def decided(gateway: Gateway, run_id: str) -> int:
    """The number of the event with the newest decision on a call of the run; 0 when there is none."""
    events = await gateway.store.runs.events(run_id)
    return max((event.seq for event in events if event.type == Approval.type), default=0)


def stream(
    gateway: Gateway, run_id: str, frames: Callable[[Event | Delta], Iterable[str]], decided: int = 0
) -> StreamingResponse:
    """The response that sends the `frames` of each of the run's events, from the first to the last, and of texts.

    It also ends when the run waits for approval: OpenAI's clients answer that in a request of its own. What was waited
    for before the event number `decided` is past.
    """
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(
        _frames(gateway.store.runs.follow_closely(run_id), frames, decided),
        media_type="text/event-stream",
        headers=headers,
    )


def frame(data: JsonObject, event: str | None = None) -> str:
    """One server-sent event."""
    text = f"data: {json.dumps(data)}\n\n"
    return text if event is None else f"event: {event}\n{text}"


async def _frames(
    events: AsyncIterator[Event | Delta | None], frames: Callable[[Event | Delta], Iterable[str]], decided: int
) -> AsyncIterator[str]:
    async for event in events:
        if event is None:
            yield ": still running\n\n"
        else:
            for text in frames(event):
                yield text
            if event.type == RequiresAction.type and event.seq > decided:
                return
