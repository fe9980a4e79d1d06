"""Responses."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from gateway.accounts import Asker
from gateway.described import EVENTS
from gateway.events import Approval, Outcome, RunStatus
from gateway.openai import models, runs
from gateway.openai.bodies import described
from gateway.openai.endings import text_of
from gateway.openai.errors import REPLIES, failure
from gateway.openai.folding import Conversation, Said, Speaker, conversation, fold, unfold
from gateway.openai.responses_bodies import IGNORED, REFUSED, Item, ResponseBody
from gateway.openai.responses_events import Sequence
from gateway.openai.responses_results import APPROVAL_PREFIX, PREFIX, Asked, response_of
from gateway.parts import Current, Gateway
from gateway.problems import Conflict, NotFound
from gateway.store import Key
from gateway.views import RunView
from umi.errors import BadInput

router = APIRouter(prefix="/v1/responses", tags=["openai"])
_APPROVAL = re.compile(rf"{APPROVAL_PREFIX}(?P<run>.+)_(?P<step>[1-9][0-9]?)")
_WHAT = "Input answered by the agent, as OpenAI's response or, with `stream`, the events that lead to it."


@router.post("", responses={**REPLIES, **EVENTS}, description=described(_WHAT, IGNORED, REFUSED))
async def respond(body: ResponseBody, gateway: Current, key: Asker) -> Response:
    """Run the input's query to its end, or until it waits for approval; a client that leaves does not end it.

    An input that ends with an `mcp_approval_response` lets the run of that request go on instead.
    """
    models.check(body.model)
    body.check(IGNORED, REFUSED)
    decided = 0
    if body.decision is not None:
        run_id, decided = await _decide(gateway, key, body.decision, body.previous_response_id)
    else:
        earlier = await _earlier(gateway, key, body.previous_response_id)
        whole = conversation([*earlier.said, *body.said], earlier.left_out)
        run_id = await runs.begin(gateway, key, fold(whole, "input"), body.options, bool(body.stream))
    asked = Asked(body.instructions, body.previous_response_id, body.metadata, bool(body.background))
    if body.stream:
        return runs.stream(gateway, run_id, Sequence(asked, decided=decided).frames, decided)
    if body.background:
        return JSONResponse(response_of(await _view(gateway, key, PREFIX + run_id, "id"), asked))
    view = await runs.finish(gateway, run_id)
    return failure(view) or JSONResponse(response_of(view, asked))


@router.get("/{response_id}", responses={code: REPLIES[code] for code in (400, 401, 403, 404, 429)} | EVENTS)
async def show(
    response_id: str,
    gateway: Current,
    key: Asker,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, description="Begin after the event of this sequence number.")] = -1,
) -> Response:
    """A response as it is now, failed ones too; with `stream`, its events from the beginning. Every run has one.

    What the log does not keep is null: instructions, metadata, previous_response_id. `include` and others are ignored.
    """
    view = await _view(gateway, key, response_id, "response_id")
    if stream:
        decided = await runs.decided(gateway, view.run_id)
        return runs.stream(gateway, view.run_id, Sequence(Asked(), starting_after).frames, decided)
    return JSONResponse(response_of(view, Asked()))


async def _decide(gateway: Gateway, key: Key, item: Item, previous_response_id: str | None) -> tuple[str, int]:
    """The run that goes on as decided, and the number of the event that says so.

    Raises NotFound, BadInput or Conflict.
    """
    given = item.approval_request_id or ""
    named = _APPROVAL.fullmatch(given)
    if named is None or await runs.look(gateway, key, named["run"]) is None:
        raise NotFound(f"there is no approval request {given!r}", "input")
    run_id, step = named["run"], int(named["step"])
    if previous_response_id not in {None, PREFIX + run_id}:
        raise BadInput("that response has no such approval request", "previous_response_id")
    approval = Approval(step=step, approve=bool(item.approve), reason=item.reason, by=key.id or None)
    if not await gateway.runs.decide(run_id, approval):
        raise Conflict((await _view(gateway, key, PREFIX + run_id, "input")).why_not(step), "input")
    return run_id, await runs.decided(gateway, run_id)


async def _earlier(gateway: Gateway, key: Key, response_id: str | None) -> Conversation:
    """What had been said when that response was finished, but for its instructions. Raises NotFound or BadInput."""
    if response_id is None:
        return Conversation(())
    view = await _view(gateway, key, response_id, "previous_response_id")
    if view.status is RunStatus.REQUIRES_ACTION:
        raise BadInput("that response waits: answer its mcp_approval_request first", "previous_response_id")
    if view.outcome in {None, Outcome.FAILED}:
        state = "has failed" if view.outcome else "is still in progress"
        raise BadInput(f"that response {state}; go on from one that is completed", "previous_response_id")
    before = unfold(view.query)
    said = [message for message in before.said if message.speaker is not Speaker.INSTRUCTIONS]
    return Conversation((*said, Said(Speaker.ASSISTANT, text_of(view))), before.left_out)


async def _view(gateway: Gateway, key: Key, response_id: str, field: str) -> RunView:
    view = await runs.look(gateway, key, response_id.removeprefix(PREFIX)) if response_id.startswith(PREFIX) else None
    if view is None:
        raise NotFound(f"there is no response {response_id[:80]!r}", field)
    return view
