"""A turn answered while it is taken, as server-sent events: parts of its text, and at the end the reply or a problem.

Asked for by `Accept: text/event-stream`. Nothing is sent before there is a text, so that whatever goes wrong until then
has its own status; a turn whose text is not shown before it is whole is answered as ever.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from umi.wire import EVENT_STREAM, Heard, Part, RoleReply, StreamedTurn


def is_wanted(request: Request) -> bool:
    """Whether the client reads event streams."""
    return EVENT_STREAM in request.headers.get("accept", "")


async def streamed(turn: Callable[[Heard], Awaitable[Response | RoleReply]]) -> Response | RoleReply:
    """The turn's answer if it comes before any text, else the response that sends the text as it is written.

    `turn` takes it, telling whom it is given; it notices by itself when the client has gone.
    """
    told: asyncio.Queue[str | None] = asyncio.Queue()
    """The text so far, again and again; None when the turn has been taken."""
    taking = asyncio.ensure_future(turn(told.put_nowait))
    taking.add_done_callback(lambda _: told.put_nowait(None))
    text: str | None = ""
    try:
        while text == "":
            text = await told.get()
    except asyncio.CancelledError:
        taking.cancel()
        raise
    return taking.result() if text is None else StreamingResponse(_frames(taking, told, text), media_type=EVENT_STREAM)


async def _frames(
    taking: asyncio.Future[Response | RoleReply], told: asyncio.Queue[str | None], text: str | None
) -> AsyncIterator[str]:
    sent = ""
    while text is not None:
        if text != sent:
            offset = len(sent) if text.startswith(sent) else 0
            yield _frame(StreamedTurn(part=Part(offset=offset, text=text[offset:])))
            sent = text
        text = await told.get()
    answer = taking.result()
    if isinstance(answer, RoleReply):
        yield _frame(StreamedTurn(reply=answer.model_dump(mode="json")))
    elif answer.body:  # there is none for a client that has gone
        yield _frame(StreamedTurn(problem=json.loads(bytes(answer.body))))


def _frame(event: StreamedTurn) -> str:
    return f"data: {event.model_dump_json(exclude_none=True)}\n\n"
