"""Runs as server-sent events: `id` is the event's number, `event` its type, `data` the event as JSON."""

from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from gateway.events import Event


def stream(events: AsyncIterator[Event | None]) -> StreamingResponse:
    """The response that sends `events` as they come, and a comment in place of None to keep the connection alive."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_lines(events), media_type="text/event-stream", headers=headers)


async def _lines(events: AsyncIterator[Event | None]) -> AsyncIterator[str]:
    async for event in events:
        if event is None:
            yield ": still running\n\n"
        else:
            yield f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"
