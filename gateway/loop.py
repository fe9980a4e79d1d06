"""The loop of the agent: plan → call → send → observe → plan … → summarize.

Pure control flow: roles and tools are reached through what is passed in, and everything that happens is emitted as an
event *before* it counts. A call is emitted, with the request it will make, before that request is sent.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway import tracing
from gateway.dispatch import Dispatcher, Reply
from gateway.egress.retries import SAFE
from gateway.events import Called, Observed, Offered, Outcome, Payload, Planned, RunCompleted, ToolOutcome
from gateway.metrics import Metrics
from gateway.past import REPEATED, Past, seen_key
from gateway.problems import NotStored, RunProblem, problem_of
from gateway.roles import Roles
from gateway.toolsets import Catalogue, Tool
from umi.errors import CallRejected, ContextOverflow, RoleFailure
from umi.openapi import HttpRequest
from umi.roles import Role, Turn
from umi.trajectory import Call, Step, Trajectory

Emit = Callable[[Payload], Awaitable[None]]
MORE_TIMES, MORE_TOOLS = 2, 4
"""How often a run is offered more tools when the planner gives up for want of one, and how many each time."""
UNKNOWN = "It is unknown whether this call was carried out: the gateway stopped meanwhile. Look before you repeat it."
_log = logging.getLogger("umi.gateway")


@dataclass(frozen=True)
class Job:
    """What a run is asked to do. `max_steps` bounds the planner's turns, the concluding one included."""

    run_id: str
    query: str
    tools: dict[str, Tool]
    max_steps: int
    deadline_seconds: float
    catalogue: Catalogue | None = None
    """Where more tools are looked for when the planner misses one; None when `tools` are all that may be used."""

    @property
    def trajectory(self) -> Trajectory:
        """The beginning: query and tools, no steps. Roles see tool specs only, never addresses."""
        return Trajectory(query=self.query, tools=tuple(tool.operation.tool for tool in self.tools.values()))


class Loop:
    """Runs jobs; holds no state of any run."""

    def __init__(self, roles: Roles, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._roles, self._dispatcher, self._metrics = roles, dispatcher, metrics

    async def run(self, job: Job, emit: Emit, past: Past | None = None) -> RunCompleted:
        """Run `job` to its end, from its past if it has one, and return the last event, which has been emitted.

        Raises only what `emit` raises.
        """
        started = time.monotonic()
        deadline = asyncio.get_running_loop().time() + job.deadline_seconds
        with self._metrics.run():
            end = await self._until(job, emit, deadline, past or Past(job.trajectory))
            end = end.model_copy(update={"seconds": time.monotonic() - started})
            await emit(end)
        return end

    async def _until(self, job: Job, emit: Emit, deadline: float, past: Past) -> RunCompleted:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await _Run(job, emit, deadline, past, self._roles, self._dispatcher, self._metrics).steps()
        except TimeoutError as error:
            if limit.expired():
                return RunCompleted(outcome=Outcome.DEADLINE)
            return _crashed(job.run_id, error)
        except (RoleFailure, ContextOverflow) as error:
            return RunCompleted(outcome=Outcome.FAILED, problem=problem_of(error, job.run_id))
        except NotStored:
            raise  # the log has no place for an end: whoever takes the run over goes on from what is stored
        except Exception as error:  # the edge: a run is a task of its own, nobody above would ever tell the user
            return _crashed(job.run_id, error)


class _Run:
    """One run's walk through its steps."""

    def __init__(
        self,
        job: Job,
        emit: Emit,
        deadline: float,
        past: Past,
        roles: Roles,
        dispatcher: Dispatcher,
        metrics: Metrics,
    ) -> None:
        self._job, self._emit, self._deadline, self._past = job, emit, deadline, past
        self._roles, self._dispatcher, self._metrics = roles, dispatcher, metrics
        self._trajectory, self._seen = past.trajectory, past.seen
        self._tools, self._offers = dict(job.tools), past.offers
        self._versions = past.versions
        """The weights that this run began with: a release meanwhile does not change them."""

    async def steps(self) -> RunCompleted:
        past = self._past
        for step in range(past.step, self._job.max_steps + 1):
            planned, called = (past.plan, past.called) if step == past.step else (None, None)
            turn = planned.turn if planned else await self._plan(step)
            if turn is Turn.GIVE_UP:
                if await self._offer_more(step):
                    continue
                return RunCompleted(outcome=Outcome.GAVE_UP)
            if turn is Turn.CONCLUSION:
                return await self._summarize()
            call, outcome = await self._again(called) if called else await self._call(step)
            await self._observe(step, call, outcome)
        return RunCompleted(outcome=Outcome.MAX_STEPS)

    async def _plan(self, step: int) -> Turn:
        started = time.monotonic()
        pinned = self._versions.get(Role.PLANNER)
        reply = await self._roles.plan(self._job.run_id, self._trajectory, self._deadline, pinned)
        self._versions[Role.PLANNER] = reply.version
        seconds = time.monotonic() - started
        await self._emit(Planned(step=step, plan=reply.plan, version=reply.version, usage=reply.usage, seconds=seconds))
        self._metrics.step()
        self._trajectory = self._trajectory.append(Step(plan=reply.plan))
        return reply.plan.turn

    async def _offer_more(self, step: int) -> bool:
        """Whether there were tools left for what the planner misses; it then plans anew, as if it had not given up."""
        if self._job.catalogue is None or self._offers == MORE_TIMES:
            return False
        missed = self._trajectory.steps[-1].plan.rationale
        found = self._job.catalogue.more(missed, self._tools, MORE_TOOLS)
        if not found:
            return False
        await self._emit(Offered(step=step, tools=list(found)))
        self._trajectory = self._trajectory.offer(tool.operation.tool for tool in found.values())
        self._tools |= found
        self._offers += 1
        return True

    async def _call(self, step: int) -> tuple[Call, Reply]:
        started = time.monotonic()
        pinned = self._versions.get(Role.CALLER)
        reply = await self._roles.call(self._job.run_id, self._trajectory, self._deadline, pinned)
        self._versions[Role.CALLER] = reply.version
        event = Called(
            step=step,
            call=reply.call,
            version=reply.version,
            usage=reply.usage,
            seconds=time.monotonic() - started,
        )
        tool = self._tools.get(reply.call.tool)
        try:
            if tool is None:
                raise CallRejected(f"there is no tool {reply.call.tool!r}; the tools are {', '.join(self._tools)}")
            request = tool.request(reply.call.arguments)
            headers = {**request.headers, "idempotency-key": f"{self._job.run_id}-{step}"}
            request = request.model_copy(update={"headers": headers})
            event = event.model_copy(update={"request": request, "toolset": tool.toolset})
        except CallRejected as error:
            await self._emit(event)
            return reply.call, Reply(f"Not sent: {error}. Correct the call.", ToolOutcome.REJECTED)
        await self._emit(event)
        answer = await self._send(step, reply.call, request, tool)
        self._metrics.tool(tool.toolset, answer.outcome, answer.seconds)
        return reply.call, answer

    async def _again(self, called: Called) -> tuple[Call, Reply]:
        """A call that was about to be sent when the gateway stopped: sent again only if that changes nothing."""
        if called.request is None:
            return called.call, Reply("Not sent: the call was not valid. Correct the call.", ToolOutcome.REJECTED)
        tool = self._tools.get(called.call.tool)
        if called.request.method not in SAFE or tool is None:
            return called.call, Reply(UNKNOWN, ToolOutcome.UNKNOWN)
        return called.call, await self._send(called.step, called.call, called.request, tool)

    async def _send(self, step: int, call: Call, request: HttpRequest, tool: Tool) -> Reply:
        """Send a call that is stored. The trace's header is not: sent again, the call belongs to another span."""
        with tracing.tool(tool.name, tool.toolset, f"{self._job.run_id}-{step}", call.arguments) as answered:
            traced = request.model_copy(update={"headers": {**tracing.headers_for_tools(), **request.headers}})
            reply = await self._dispatcher.send(traced, tool.permission, tool.keys)
            answered(reply.outcome, reply.status, reply.observation)
        return reply

    async def _observe(self, step: int, call: Call, reply: Reply) -> None:
        key = seen_key(call, reply.observation)
        self._seen[key] += 1
        text = REPEATED + reply.observation if self._seen[key] > 1 else reply.observation
        await self._emit(
            Observed(step=step, observation=text, outcome=reply.outcome, status=reply.status, seconds=reply.seconds)
        )
        self._trajectory = self._trajectory.replace_last(call=call, observation=text)

    async def _summarize(self) -> RunCompleted:
        started = time.monotonic()
        reply = await self._roles.summarize(self._job.run_id, self._trajectory, self._deadline)
        return RunCompleted(
            outcome=Outcome.ANSWERED,
            answer=reply.answer,
            version=reply.version,
            usage=reply.usage,
            summarize_seconds=time.monotonic() - started,
        )


def _crashed(run_id: str, error: Exception) -> RunCompleted:
    _log.error("run %s ended in an unexpected error", run_id, exc_info=error)
    problem = RunProblem(
        type="internal",
        title="Internal error",
        status=500,
        detail="An unexpected error; the gateway's log has its traceback.",
        run_id=run_id,
    )
    return RunCompleted(outcome=Outcome.FAILED, problem=problem)
