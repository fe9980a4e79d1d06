"""Asking queries and looking at runs."""

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Response

from gateway import accounts
from gateway.accounts import Asker
from gateway.bodies import ApprovalBody, QueryBody, RunList
from gateway.cursors import cursor_of, position
from gateway.deltas import POSITION, Position
from gateway.described import EVENTS
from gateway.events import Approval, Outcome, RunStatus
from gateway.parts import Current, Gateway
from gateway.problems import Conflict, NotFound, RunProblem, respond
from gateway.sse import stream
from gateway.store import Claim, Key
from gateway.views import RunView, fold
from umi.errors import BadInput
from umi.wire import RUN_ID, Problem

router = APIRouter(prefix="/v1", tags=["runs"], responses=accounts.PROBLEMS)
RunId = Annotated[str, Path(pattern=RUN_ID)]
_Unfinished = Literal["running", "requires_action"]
ANSWERS: dict[int | str, dict[str, Any]] = {
    **EVENTS,
    202: {"model": RunView, "description": "The run goes on in the background, or waits for approval"},
    409: {"model": Problem, "description": "The Idempotency-Key was used for another request"},
    503: {"model": Problem, "description": "A role service failed; `role` names it, the run is stored as failed"},
}


@router.post("/queries", response_model=RunView, responses=ANSWERS)
async def ask(
    body: QueryBody,
    gateway: Current,
    key: Asker,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="The same request with the same key is one run, asked twice."),
    ] = None,
) -> Response:
    """Run a query to its end; with `stream` answer with its events as they happen, with `background` at once.

    A run that comes to wait for approval is answered with 202, its status `requires_action`; a stream stays open.
    """
    catalogue = gateway.registry.catalogue(key.tenant)
    tools = await catalogue.offer(body.query, body.tools, gateway.settings.max_offered)
    if not tools:
        raise BadInput("no tools to offer: register a toolset first, or name at least one tool", "tools")
    claim = Claim(key=idempotency_key, digest=_digest(body)) if idempotency_key else None
    more = catalogue if body.tools is None else None
    webhook = await gateway.webhooks.checked(key.tenant, str(body.webhook.url)) if body.webhook else None
    run_id = await gateway.runs.start(
        key, body.query, tools, body.max_steps, body.deadline_seconds, claim, more, webhook, body.stream
    )
    if body.stream:
        return stream(gateway.store.runs.follow_closely(run_id))
    view = await _view(gateway, key, run_id) if body.background else fold(await gateway.runs.settled(run_id))
    if body.background or (view.outcome is None and view.asked_a_person):
        return _shown(view, 202, {"location": f"/v1/runs/{run_id}"})
    if view.problem is not None:
        return respond(view.problem)
    if view.outcome is None:
        detail = "The run's end could not be stored; the gateway's log says why."
        return respond(RunProblem(type="internal", title="Internal error", status=500, detail=detail, run_id=run_id))
    return _shown(view)


@router.get("/runs")
async def list_runs(
    gateway: Current,
    key: Asker,
    outcome: Annotated[Outcome | _Unfinished | None, Query(description="Only runs that ended so, or go on so.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
) -> RunList:
    """Runs, newest first."""
    standing = outcome if outcome is None or isinstance(outcome, Outcome) else RunStatus(outcome)
    found = await gateway.store.runs.page(key.tenant, limit + 1, standing, position(cursor) if cursor else None)
    page = found[:limit]
    more = len(found) > limit
    return RunList(runs=page, next=cursor_of(page[-1].created_at, page[-1].run_id) if more else None)


@router.post("/runs/{run_id}/cancel")
async def cancel(run_id: RunId, gateway: Current, key: Asker) -> RunView:
    """End a run now: its generation is aborted, its tool call dropped. A run that has ended stays as it is."""
    await _view(gateway, key, run_id)
    await gateway.runs.cancel(run_id)
    return await _view(gateway, key, run_id)


@router.post("/runs/{run_id}/approve", responses={409: {"model": Problem, "description": "It does not wait with that"}})
async def approve(run_id: RunId, body: ApprovalBody, gateway: Current, key: Asker) -> RunView:
    """Let the call that a run waits with be sent exactly as it is shown, or refuse it; the run then goes on.

    409 when the run does not wait with that step's call (any more).
    """
    await _view(gateway, key, run_id)
    approval = Approval(**body.model_dump(), by=key.id or None)
    decided = await gateway.runs.decide(run_id, approval)
    view = await _view(gateway, key, run_id)
    if not decided:
        raise Conflict(view.why_not(body.step), "step")
    return view


@router.delete("/runs/{run_id}", status_code=204, responses={409: {"model": Problem, "description": "It goes on"}})
async def delete(run_id: RunId, gateway: Current, key: Asker) -> None:
    """Forget a run that has ended."""
    view = await _view(gateway, key, run_id)
    if view.outcome is None or gateway.runs.is_running(run_id):
        raise Conflict("the run goes on; cancel it first", "run_id")
    await gateway.store.runs.delete(run_id)


@router.get("/runs/{run_id}")
async def show(run_id: RunId, gateway: Current, key: Asker) -> RunView:
    """A run as it is now."""
    return await _view(gateway, key, run_id)


@router.get(
    "/runs/{run_id}/events",
    response_class=Response,
    responses={**EVENTS, 204: {"description": "There is nothing left to come"}},
)
async def events(
    run_id: RunId,
    gateway: Current,
    key: Asker,
    after: Annotated[int, Query(ge=-1, le=10**9, description="Begin after the event of this number.")] = -1,
    last_event_id: Annotated[str | None, Header(pattern=POSITION)] = None,
) -> Response:
    """A run's events as server-sent events: those stored, then those to come, up to `run.completed`.

    The texts of a plan and of an answer come in parts while they are written: `plan.delta`, `answer.delta`.
    204 when there is nothing left to come, so that a browser's EventSource does not ask again and again.
    """
    if not (found := await gateway.store.runs.events_of(key.tenant, run_id)):
        raise NotFound(f"there is no run {run_id!r}", "run_id")
    begin = Position(after=after) if last_event_id is None else Position.parse(last_event_id)
    if found[-1].is_last and begin.after >= found[-1].seq:
        return Response(status_code=204)
    return stream(gateway.store.runs.follow_closely(run_id, begin))


def _shown(view: RunView, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(view.model_dump_json(), status, headers, "application/json")


def _digest(body: QueryBody) -> str:
    """What the request asks for; how it wants to be answered does not matter."""
    asked = body.model_dump_json(exclude={"stream", "background"})
    return hashlib.sha256(asked.encode()).hexdigest()


async def _view(gateway: Gateway, key: Key, run_id: str) -> RunView:
    if not (found := await gateway.store.runs.events_of(key.tenant, run_id)):
        raise NotFound(f"there is no run {run_id!r}", "run_id")
    return fold(found)
