"""Chat completions."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from gateway.accounts import Asker
from gateway.described import EVENTS
from gateway.openai import models, runs
from gateway.openai.bodies import described
from gateway.openai.chat_bodies import IGNORED, REFUSED, ChatBody
from gateway.openai.chat_chunks import Chunks
from gateway.openai.chat_results import completion_of
from gateway.openai.errors import REPLIES, failure
from gateway.openai.folding import fold
from gateway.parts import Current

router = APIRouter(prefix="/v1/chat", tags=["openai"])
_WHAT = "A conversation answered by the agent, as OpenAI's chat completion or, with `stream`, its chunks."


@router.post("/completions", responses={**REPLIES, **EVENTS}, description=described(_WHAT, IGNORED, REFUSED))
async def complete(body: ChatBody, gateway: Current, key: Asker) -> Response:
    """Run the conversation's query to its end; a client that leaves does not end it."""
    models.check(body.model)
    body.check(IGNORED, REFUSED)
    run_id = await runs.begin(gateway, key, fold(body.conversation, "messages"), body.options, bool(body.stream))
    if body.stream:
        return runs.stream(gateway, run_id, Chunks(body.with_usage).frames)
    view = await runs.finish(gateway, run_id)
    return failure(view) or JSONResponse(completion_of(view, body.metadata))
