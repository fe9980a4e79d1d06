"""The HTTP face of a role: one POST, health, readiness and metrics around an engine."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services import streaming, tracing
from services.disconnect import ClientGone, unless_gone
from services.engine import Engine, EngineFailure
from services.limits import BodyLimit
from services.metrics import CONTENT_TYPE, Metrics, Outcome
from services.problems import bad_body, http_error, problem, retry_later
from services.released import ReleasedWeights
from services.role import RoleBehaviour
from services.settings import RoleSettings
from services.token import RoleToken
from services.weights import FixedWeights, Weights
from umi import logs
from umi.errors import BadInput, ContextOverflow, RoleOutputInvalid, UmiError
from umi.manifest import Checkpoint
from umi.registry import Registry
from umi.wire import ROLE_PATHS, Difference, Heard, Problem, Replica, RoleReply, RoleRequest

_log = logging.getLogger("umi.services")
_CLIENT_CLOSED_REQUEST = 499  # nginx's code; nobody is there to read it, access logs are
_RETRY_LOADING, _RETRY_FULL = 5, 1
_FINE = {Outcome.OK, Outcome.ABORTED}
_ERRORS = {
    422: "not this role's turn, or a bad body",
    413: "too long",
    502: "the model's text is unusable",
    503: "later",
}


class RoleService:
    """What one app knows while it runs: how many turns are taken now, and whether it is ready."""

    def __init__(self, max_queue: int) -> None:
        self.max_queue = max_queue
        self.running = 0
        self.not_ready: str | None = "the engine is loading"

    @property
    def full(self) -> bool:
        """Whether one more request must be turned away."""
        return self.running >= self.max_queue


def _ignore(reason: str) -> None:
    pass


def create_app(
    behaviour: RoleBehaviour,
    engine: Engine,
    source: Checkpoint | Registry,
    settings: RoleSettings,
    on_failure: Callable[[str], None] = _ignore,
) -> FastAPI:
    """The app of one role, for one checkpoint or for what a registry releases. It listens at once and is ready when the
    engine is.

    `on_failure` is told, in one sentence, that the engine cannot be loaded or has died: the process should end then.
    Raises BadCheckpoint when the checkpoint is not for this role.
    """
    role = behaviour.role
    behaviour = replace(behaviour, observation_tokens=settings.observation_tokens)
    service = RoleService(settings.max_queue)
    metrics = Metrics(role, lambda: service.running)
    weights: Weights = (
        FixedWeights(behaviour, engine, source)
        if isinstance(source, Checkpoint)
        else ReleasedWeights(
            behaviour,
            engine,
            source,
            settings.look_seconds or source.look_seconds,
            settings.retire_seconds,
            metrics.forget,
        )
    )
    metrics.watch(weights.replica)

    def fail(error: UmiError) -> None:
        service.not_ready = str(error)
        on_failure(str(error))

    async def run() -> None:
        try:
            await weights.start()
            service.not_ready = None
            await weights.follow()
        except UmiError as error:
            fail(error)
        except Exception as error:  # the edge of the process: better none than one that follows no release any more
            _log.exception("%s: the weights are followed no longer", role)
            fail(UmiError(f"a fault: {type(error).__name__}; the log says more"))

    def reason() -> str:
        return weights.replica().problem or service.not_ready or ""

    def refuse_body(request: Request, error: Exception) -> Response:
        metrics.count(Outcome.BAD_INPUT)
        return bad_body(request, error)

    def fault(request: Request, error: Exception) -> Response:
        metrics.count(Outcome.FAILED)
        return problem(500, "fault", "A fault in the service", f"{type(error).__name__}; the log says more")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        running = asyncio.create_task(run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await engine.shutdown()

    app = FastAPI(
        title=f"UMi {role}", summary=f"The {role} of a UMi agent.", version=version("umi-agent"), lifespan=lifespan
    )
    app.add_exception_handler(RequestValidationError, refuse_body)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, fault)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_mib * 2**20)
    if settings.role_token is not None:
        app.add_middleware(RoleToken, token=settings.role_token.get_secret_value())

    async def take_turn(
        request: Request, asked: RoleRequest, heard: Heard | None
    ) -> tuple[Outcome, Response | RoleReply]:
        if service.not_ready is not None:
            return Outcome.NOT_READY, retry_later("not-ready", "Not ready", reason(), _RETRY_LOADING)
        if service.full:
            detail = f"{service.running} requests are waiting or running"
            return Outcome.OVERLOADED, retry_later("overloaded", "Too many requests", detail, _RETRY_FULL)
        service.running += 1
        try:
            reply = await unless_gone(request, weights.take(asked, metrics.retried, heard))
        except ClientGone:
            return Outcome.ABORTED, Response(status_code=_CLIENT_CLOSED_REQUEST)
        except ContextOverflow as error:
            answer = problem(413, "context-overflow", "Too long for the model", str(error), field=error.field)
            return Outcome.BAD_INPUT, answer
        except BadInput as error:
            answer = problem(422, "bad-input", "Not something this role can answer", str(error), field=error.field)
            return Outcome.BAD_INPUT, answer
        except RoleOutputInvalid as error:
            return Outcome.OUTPUT_INVALID, problem(502, "role-output-invalid", "Unusable model output", str(error))
        except EngineFailure as error:
            fail(error)
            return Outcome.FAILED, retry_later("engine-failed", "The engine has died", str(error), _RETRY_LOADING)
        finally:
            service.running -= 1
        metrics.answered(reply)
        weights.answered(asked, reply, is_idle=not service.running)
        return Outcome.OK, reply

    async def tell_of_turn(request: Request, asked: RoleRequest, heard: Heard | None = None) -> Response | RoleReply:
        started = time.monotonic()
        with tracing.turn(role, asked.run_id, request.headers) as span:
            with logs.bound(run_id=asked.run_id, trace_id=span.trace_id):
                outcome, answer = await take_turn(request, asked, heard)
                _log.info("%s: %s after %.3f s", role, outcome, time.monotonic() - started)
            version = None if isinstance(answer, Response) else answer.version
            span.ended(outcome, outcome not in _FINE, version)
        metrics.count(outcome)
        return answer

    @app.post(
        ROLE_PATHS[role],
        response_model=behaviour.reply_type,
        responses={code: {"model": Problem, "description": text} for code, text in _ERRORS.items()},
    )
    async def take_a_turn(request: Request, asked: RoleRequest) -> Response | RoleReply:
        """This role's next words in a trajectory; with `Accept: text/event-stream`, while they are written."""
        if not streaming.is_wanted(request):
            return await tell_of_turn(request, asked)
        return await streaming.streamed(lambda heard: tell_of_turn(request, asked, heard))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"model": Problem}}, response_model=None)
    async def readyz() -> JSONResponse:
        """The model is loaded, has generated once, and its engine is still there."""
        if service.not_ready is None:
            try:
                engine.check()
            except EngineFailure as error:
                fail(error)
        if service.not_ready is not None:
            return retry_later("not-ready", "Not ready", reason(), _RETRY_LOADING)
        return JSONResponse({"role": role, "version": weights.replica().stable, "backbone": settings.backbone_name})

    @app.get("/v1/replica")
    async def replica() -> Replica:
        """The weights that this replica serves, and why they are not those that are released."""
        return weights.replica()

    @app.get("/v1/replica/differences")
    async def differences() -> Sequence[Difference]:
        """The newest turns on which the shadow decided otherwise than what was served."""
        return weights.differences

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    _ = take_a_turn, healthz, readyz, replica, differences, prometheus
    return app
