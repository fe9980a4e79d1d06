"""Asking queries and looking at runs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import JSONResponse

from gateway.bodies import QueryBody
from gateway.parts import Current, Gateway
from gateway.problems import NotFound, RunProblem, respond
from gateway.sse import stream
from gateway.views import RunView, fold
from umi.errors import BadInput
from umi.wire import RUN_ID, Problem

router = APIRouter(prefix="/v1", tags=["runs"])
RunId = Annotated[str, Path(pattern=RUN_ID)]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "Something in the request is wrong; `field` names it"},
    503: {"model": Problem, "description": "A role service failed; `role` names it, the run is stored as failed"},
}


@router.post("/queries", response_model=RunView, responses=PROBLEMS)
async def ask(body: QueryBody, gateway: Current) -> Response:
    """Run a query to its end; with `stream`, answer with its events as they happen."""
    tools = gateway.registry.catalogue.offer(body.query, body.tools, gateway.settings.max_offered)
    if not tools:
        raise BadInput("no tools to offer: register a toolset first, or name at least one tool", "tools")
    run_id = await gateway.runs.start(body.query, tools, body.max_steps, body.deadline_seconds)
    if body.stream:
        return stream(gateway.store.follow(run_id))
    await gateway.runs.finished(run_id)
    view = await _view(gateway, run_id)
    if view.problem is not None:
        return respond(view.problem)
    if view.outcome is None:
        detail = "The run's end could not be stored; the gateway's log says why."
        return respond(RunProblem(type="internal", title="Internal error", status=500, detail=detail, run_id=run_id))
    return JSONResponse(view.model_dump(mode="json"))


@router.get("/runs/{run_id}")
async def show(run_id: RunId, gateway: Current) -> RunView:
    """A run as it is now."""
    return await _view(gateway, run_id)


@router.get("/runs/{run_id}/events", response_class=Response)
async def events(
    run_id: RunId,
    gateway: Current,
    after: Annotated[int, Query(ge=-1, description="Begin after the event of this id.")] = -1,
    last_event_id: Annotated[int | None, Header(ge=-1)] = None,
) -> Response:
    """A run's events as server-sent events: those stored, then those to come, up to `run.completed`."""
    await _view(gateway, run_id)
    return stream(gateway.store.follow(run_id, after if last_event_id is None else last_event_id))


async def _view(gateway: Gateway, run_id: str) -> RunView:
    if not (found := await gateway.store.events(run_id)):
        raise NotFound(f"there is no run {run_id!r}", "run_id")
    return fold(found)
