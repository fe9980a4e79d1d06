"""Runs as server-sent events: `id` is the event's number, `event` its type, `data` the event as JSON.

The `id` of a part of a text also says how much of the text it completes (gateway/deltas.py).
"""

from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from gateway.deltas import Delta
from gateway.events import Event


def stream(events: AsyncIterator[Event | Delta | None]) -> StreamingResponse:
    """The response that sends `events` as they come, and a comment in place of None to keep the connection alive."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_lines(events), media_type="text/event-stream", headers=headers)


async def _lines(events: AsyncIterator[Event | Delta | None]) -> AsyncIterator[str]:
    async for event in events:
        if event is None:
            yield ": still running\n\n"
        else:
            place = event.position if isinstance(event, Delta) else event.seq
            yield f"id: {place}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
