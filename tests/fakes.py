"""Servers for the gateway's tests: the three roles with a script, and tools that misbehave. All on loopback."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Body, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from starlette.types import ASGIApp

from services import streaming
from services.problems import problem
from umi.roles import Role, Turn
from umi.trajectory import Call, Plan
from umi.wire import ROLE_PATHS, CallReply, Heard, PlanReply, RoleReply, RoleRequest, SummaryReply, Usage

USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, seconds=0.01)


@contextlib.contextmanager
def serve(
    app: ASGIApp, port: int = 0, host: str = "127.0.0.1", http: type[asyncio.Protocol] | Literal["auto"] = "auto"
) -> Iterator[str]:
    """Serve `app` on loopback from a thread and give its base URL."""
    config = uvicorn.Config(app, host=host, port=port, http=http, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://{host}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as probes:
            try:
                for number in range(count):
                    probe = probes.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", first + number))
                return first
            except OSError:
                continue


def plan(turn: Turn, rationale: str = "Because.") -> Plan:
    """A planner's output."""
    return Plan(rationale=rationale, turn=turn)


def call(tool: str, **arguments: Any) -> Call:
    """A caller's output."""
    return Call(tool=tool, arguments=arguments)


def broken(detail: str) -> Response:
    """What a role answers when it has failed for good; words without a problem's type would be those of a proxy."""
    return problem(500, "role-failure", "The role has failed", detail)


@dataclass
class Script:
    """What the roles answer: the step's number picks plan and call, the last ones repeat.

    `failures` are answered first, one per request to its role; `delays` are seconds before every answer of a role.
    The planner gives up until the tool `wants` is offered. With `seconds_per_word`, rationales and answers are told
    word by word to whoever reads them so; each of `stumbles` is begun in place of one of a role, and breaks off.
    """

    calls: list[Call] = field(default_factory=list[Call])
    plans: list[Plan] | None = None
    wants: str | None = None
    answer: str = "It is done."
    version: str = "v1"
    failures: list[tuple[Role, Response]] = field(default_factory=list[tuple[Role, Response]])
    delays: dict[Role, float] = field(default_factory=dict[Role, float])
    requests: list[tuple[Role, RoleRequest]] = field(default_factory=list[tuple[Role, RoleRequest]])
    cancelled: list[Role] = field(default_factory=list[Role])
    seconds_per_word: float | None = None
    stumbles: list[tuple[Role, str]] = field(default_factory=list[tuple[Role, str]])
    told: list[Role] = field(default_factory=list[Role])
    """Whose texts were told word by word."""

    def reset(self) -> None:
        """Forget everything, also for an app that is being served."""
        vars(self).update(vars(Script()))

    def plan_at(self, step: int) -> Plan:
        """The plan of a step; without a list of plans: all calls, then the conclusion."""
        if self.plans is not None:
            return self.plans[min(step, len(self.plans) - 1)]
        return plan(Turn.CALLER if step < len(self.calls) else Turn.CONCLUSION)

    async def tell(self, request: Request, role: Role, text: str, reply: RoleReply) -> Response | RoleReply:
        """The reply, after its text's words if the client reads them."""
        seconds = self.seconds_per_word
        if seconds is None or not streaming.is_wanted(request):
            return reply

        async def turn(heard: Heard) -> RoleReply:
            self.told.append(role)
            begun = next((each for each in self.stumbles if each[0] is role), None)
            words = (begun[1] if begun else text).split(" ")
            for count in range(1, len(words) + 1):
                heard(" ".join(words[:count]))
                await asyncio.sleep(seconds)
            if begun is not None:
                self.stumbles.remove(begun)
                raise ConnectionResetError("the script stumbles")
            return reply

        return await streaming.streamed(turn)

    def app(self) -> FastAPI:
        """One app that serves all three roles."""
        app = FastAPI()

        async def begin(role: Role, request: RoleRequest) -> Response | None:
            self.requests.append((role, request))
            try:
                await asyncio.sleep(self.delays.get(role, 0))
            except asyncio.CancelledError:
                self.cancelled.append(role)
                raise
            for index, (failing, response) in enumerate(self.failures):
                if failing is role:
                    del self.failures[index]
                    return response
            return None

        @app.post(ROLE_PATHS[Role.PLANNER], response_model=PlanReply)
        async def answer_plan(http: Request, request: RoleRequest) -> Any:
            failure = await begin(Role.PLANNER, request)
            offered = {tool.name for tool in request.trajectory.tools}
            made = self.plan_at(len(request.trajectory.steps))
            if self.wants and self.wants not in offered:
                made = plan(Turn.GIVE_UP, f"To go on, use {self.wants}.")
            reply = PlanReply(version=self.version, usage=USAGE, plan=made)
            return failure or await self.tell(http, Role.PLANNER, made.rationale, reply)

        @app.post(ROLE_PATHS[Role.CALLER], response_model=CallReply)
        async def answer_call(request: RoleRequest) -> Any:
            failure = await begin(Role.CALLER, request)
            made = self.calls[min(len(request.trajectory.steps), len(self.calls)) - 1]
            return failure or CallReply(version=self.version, usage=USAGE, call=made)

        @app.post(ROLE_PATHS[Role.SUMMARIZER], response_model=SummaryReply)
        async def answer_summary(http: Request, request: RoleRequest) -> Any:
            failure = await begin(Role.SUMMARIZER, request)
            reply = SummaryReply(version=self.version, usage=USAGE, answer=self.answer)
            return failure or await self.tell(http, Role.SUMMARIZER, self.answer, reply)

        @app.get("/readyz")
        async def ready() -> dict[str, str]:
            return {"status": "ok"}

        return app


def tool_app(seen: list[str] | None = None) -> FastAPI:
    """Tools that work, and tools that do everything a tool should not. `seen` records the paths called."""
    app = FastAPI(title="Test tools")
    log = seen if seen is not None else []

    @app.get("/add", operation_id="add", summary="Add two whole numbers")
    async def add(a: int, b: int) -> dict[str, int]:
        log.append("/add")
        return {"sum": a + b}

    @app.post("/notes", operation_id="make_note", summary="Keep a note")
    async def note(text: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        log.append("/notes")
        return {"kept": text}

    @app.post("/slow-notes", operation_id="make_slow_note", summary="Keep a note, late")
    async def slow_note(text: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        log.append("/slow-notes")
        await asyncio.sleep(30)
        return {"kept": text}

    @app.get("/slow", operation_id="slow", summary="Answer late")
    async def slow() -> str:
        log.append("/slow")
        await asyncio.sleep(30)
        return "late"

    @app.get("/boom", operation_id="boom", summary="Fail")
    async def boom() -> Response:
        return Response('{"detail": "the disk is on fire"}', 500, media_type="application/json")

    @app.get("/page", operation_id="page", summary="Answer a web page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<html><head><title>x</title></head><body><h1>Hello</h1> there</body></html>")

    @app.get("/huge", operation_id="huge", summary="Answer 50 MB")
    async def huge() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 1_000_000

        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/elsewhere", operation_id="elsewhere", summary="Redirect")
    async def elsewhere() -> RedirectResponse:
        return RedirectResponse("http://10.0.0.1/secret")

    @app.get("/surrogate", operation_id="surrogate", summary="Answer text that is not valid Unicode")
    async def surrogate() -> Response:
        return Response('{"text": "\\ud800"}', media_type="application/json")

    @app.get("/deep", operation_id="deep", summary="Answer very deep JSON")
    async def deep() -> Response:
        return Response("[" * 200_000, media_type="application/json")

    @app.get("/header", operation_id="long_header", summary="Answer with a header no client takes")
    async def header() -> Response:
        return Response("ok", headers={"x-long": "y" * 50_000})

    return app
