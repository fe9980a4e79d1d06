"""The loop of the agent: plan → call → send → observe → plan … → summarize.

Pure control flow: roles and tools are reached through what is passed in, and everything that happens becomes an event
of the run's log. Whatever counts outside waits until it is stored: a call that may change something, with the request
it will make, before that is sent; the answer before it is given. A plan, an observation or a call that may be repeated
is stored meanwhile (docs/adr/0011).

A call that needs approval ends the walk here: once a person has decided, the run goes on from its log, like one whose
gateway stopped.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway import tracing
from gateway.deltas import ANSWER_DELTA, PLAN_DELTA
from gateway.egress.dispatch import Reply
from gateway.events import (
    Called,
    Observed,
    Offered,
    Outcome,
    Payload,
    Planned,
    RequiresAction,
    RunCompleted,
    Sending,
    ToolOutcome,
)
from gateway.metrics import Metrics
from gateway.past import REPEATED, Past, seen_key
from gateway.policy import Decision
from gateway.problems import NotStored, RunProblem, problem_of
from gateway.roles import Roles
from gateway.tools.calls import Calls
from gateway.tools.catalogue import Catalogue, Sent, Tool
from gateway.tools.earlier import Withdrawn
from umi.errors import CallRejected, ContextOverflow, RoleFailure
from umi.openapi import HttpRequest
from umi.roles import Role, Turn
from umi.trajectory import Call, Step, Trajectory
from umi.wire import Heard

MORE_TIMES, MORE_TOOLS = 2, 4
"""How often a run is offered more tools when the planner gives up for want of one, and how many each time."""
UNKNOWN = "It is unknown whether this call was carried out: the gateway stopped meanwhile. Look before you repeat it."
_log = logging.getLogger("umi.gateway")


class Log(Protocol):
    """The events of one run, stored in the order in which they come."""

    def note(self, payload: Payload) -> None:
        """Store it, without waiting for that. Raises NotStored when something before it could not be stored."""
        ...

    async def append(self, payload: Payload) -> None:
        """Store it; returns when it and all before it are stored. Raises NotStored."""
        ...

    def draft(self, kind: str) -> Heard | None:
        """Shows the text of the next event while it is written, as events of that type; None when nobody looks."""
        ...


@dataclass(frozen=True)
class Job:
    """What a run is asked to do. `max_steps` bounds the planner's turns, the concluding one included."""

    run_id: str
    query: str
    tools: dict[str, Tool]
    max_steps: int
    deadline_seconds: float
    spent_seconds: float = 0.0
    """How much of that is over."""
    catalogue: Catalogue | None = None
    """Where more tools are looked for when the planner misses one; None when `tools` are all that may be used."""

    @property
    def left_seconds(self) -> float:
        """How much is left."""
        return self.deadline_seconds - self.spent_seconds

    @property
    def trajectory(self) -> Trajectory:
        """The beginning: query and tools, no steps. Roles see tool specs only, never addresses."""
        return Trajectory(query=self.query, tools=tuple(tool.spec for tool in self.tools.values()))


class Loop:
    """Runs jobs; holds no state of any run."""

    def __init__(self, roles: Roles, calls: Calls, metrics: Metrics, approval_seconds: float) -> None:
        self._roles, self._calls, self._metrics = roles, calls, metrics
        self._approval_seconds = approval_seconds

    async def run(self, job: Job, log: Log, past: Past | None = None) -> RunCompleted | RequiresAction:
        """Run `job`, from its past if it has one, until it ends or waits for a person.

        Returns the last event, which has been stored. Raises only what `log` raises.
        """
        started = time.monotonic()
        deadline = asyncio.get_running_loop().time() + job.left_seconds
        with self._metrics.run():
            end = await self._until(job, log, deadline, past or Past(job.trajectory))
            if isinstance(end, RunCompleted):
                end = end.model_copy(update={"seconds": job.spent_seconds + time.monotonic() - started})
            await log.append(end)
        return end

    async def _until(self, job: Job, log: Log, deadline: float, past: Past) -> RunCompleted | RequiresAction:
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                run = _Run(job, log, deadline, past, self._roles, self._calls, self._metrics)
                end = await run.steps()
            return self._asked(end) if isinstance(end, Called) else end
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

    def _asked(self, called: Called) -> RequiresAction:
        assert called.request is not None
        assert called.toolset is not None
        return RequiresAction(
            step=called.step,
            call=called.call,
            toolset=called.toolset,
            request=called.request,
            expires_at=time.time() + self._approval_seconds,
        )


class _Run:
    """One run's walk through its steps."""

    def __init__(
        self,
        job: Job,
        log: Log,
        deadline: float,
        past: Past,
        roles: Roles,
        calls: Calls,
        metrics: Metrics,
    ) -> None:
        self._job, self._log, self._deadline, self._past = job, log, deadline, past
        self._roles, self._calls, self._metrics = roles, calls, metrics
        self._trajectory, self._seen = past.trajectory, past.seen
        self._tools, self._offers = dict(job.tools), past.offers
        self._versions = past.versions
        """The weights that this run began with: a release meanwhile does not change them."""

    async def steps(self) -> RunCompleted | Called:
        """To the run's end, or to a call that waits for approval."""
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
            if called is None:
                called, reply = await self._call(step)
            else:
                reply = await self._again(called)
            if reply is None:
                return called
            self._observe(step, called.call, reply)
        return RunCompleted(outcome=Outcome.MAX_STEPS)

    async def _plan(self, step: int) -> Turn:
        started = time.monotonic()
        pinned = self._versions.get(Role.PLANNER)
        reply = await self._roles.plan(
            self._job.run_id, self._trajectory, self._deadline, pinned, self._log.draft(PLAN_DELTA)
        )
        self._versions[Role.PLANNER] = reply.version
        seconds = time.monotonic() - started
        self._log.note(Planned(step=step, plan=reply.plan, version=reply.version, usage=reply.usage, seconds=seconds))
        self._metrics.step()
        self._trajectory = self._trajectory.append(Step(plan=reply.plan))
        return reply.plan.turn

    async def _offer_more(self, step: int) -> bool:
        """Whether there were tools left for what the planner misses; it then plans anew, as if it had not given up."""
        if self._job.catalogue is None or self._offers == MORE_TIMES:
            return False
        missed = self._trajectory.steps[-1].plan.rationale
        found = await self._job.catalogue.more(missed, self._tools, MORE_TOOLS)
        if not found:
            return False
        sources = {name: tool.source for name, tool in found.items()}
        self._log.note(Offered(step=step, tools=list(found), sources=sources))
        self._trajectory = self._trajectory.offer(tool.spec for tool in found.values())
        self._tools |= found
        self._offers += 1
        return True

    async def _call(self, step: int) -> tuple[Called, Reply | None]:
        """The caller's turn and what came of its call; None when that needs approval."""
        started = time.monotonic()
        pinned = self._versions.get(Role.CALLER)
        reply = await self._roles.call(self._job.run_id, self._trajectory, self._deadline, pinned)
        self._versions[Role.CALLER] = reply.version
        event = partial(
            Called,
            step=step,
            call=reply.call,
            version=reply.version,
            usage=reply.usage,
            seconds=time.monotonic() - started,
        )
        try:
            tool, request = self._prepared(step, reply.call)
        except CallRejected as error:
            self._log.note(called := event())
            return called, Reply(f"Not sent: {error}. Correct the call.", ToolOutcome.REJECTED)
        asks = tool.decision is Decision.ASK
        called = event(request=request, toolset=tool.toolset, needs_approval=asks)
        if asks or not tool.may_repeat(request):
            await self._log.append(called)
        else:
            self._log.note(called)
        return called, None if asks else await self._send(called, request, tool)

    def _prepared(self, step: int, call: Call) -> tuple[Tool, Sent]:
        """The tool that is called, and what is to be sent. Raises CallRejected."""
        tool = self._tools.get(call.tool)
        if tool is None:
            raise CallRejected(f"there is no tool {call.tool!r}; the tools are {', '.join(self._tools)}")
        request = tool.request(call.arguments)
        if isinstance(request, HttpRequest):
            request = _with_headers(request, {"idempotency-key": f"{self._job.run_id}-{step}"})
        return tool, request

    async def _again(self, called: Called) -> Reply | None:
        """What comes of a call in the log without an observation; None when it still needs approval.

        One that may have been sent when the gateway stopped is sent again only if that does no more.
        """
        if called.request is None:
            return Reply("Not sent: the call was not valid. Correct the call.", ToolOutcome.REJECTED)
        tool, approval = self._tools.get(called.call.tool), self._past.approval
        if called.needs_approval and not self._past.was_sending:
            if approval is None:
                return None
            if not approval.approve:
                return Reply(_refusal(approval.reason), ToolOutcome.REFUSED)
            if tool is None or isinstance(tool, Withdrawn):
                why = f"there is no tool {called.call.tool!r} any more" if tool is None else tool.reason
                return Reply(f"Not sent: {why}.", ToolOutcome.REJECTED)
            await self._log.append(Sending(step=called.step))
            return await self._send(called, called.request, tool)
        if tool is None or not tool.may_repeat(called.request):
            return Reply(UNKNOWN, ToolOutcome.UNKNOWN)
        return await self._send(called, called.request, tool)

    async def _send(self, called: Called, request: Sent, tool: Tool) -> Reply:
        """Send a call that is stored. The trace's header is not: sent again, the call belongs to another span."""
        call_id = f"{self._job.run_id}-{called.step}"
        with tracing.tool(tool.name, tool.toolset, call_id, called.call.arguments) as answered:
            if isinstance(request, HttpRequest) and (headers := tracing.headers_for_tools()):
                request = _with_headers(request, headers)
            reply = await self._calls.send(request, tool)
            answered(reply.outcome, reply.status, reply.observation)
        self._metrics.tool(tool.toolset, reply.outcome, reply.seconds)
        return reply

    def _observe(self, step: int, call: Call, reply: Reply) -> None:
        key = seen_key(call, reply.observation)
        self._seen[key] += 1
        text = REPEATED + reply.observation if self._seen[key] > 1 else reply.observation
        self._log.note(
            Observed(step=step, observation=text, outcome=reply.outcome, status=reply.status, seconds=reply.seconds)
        )
        self._trajectory = self._trajectory.replace_last(call=call, observation=text)

    async def _summarize(self) -> RunCompleted:
        started = time.monotonic()
        reply = await self._roles.summarize(
            self._job.run_id, self._trajectory, self._deadline, self._log.draft(ANSWER_DELTA)
        )
        return RunCompleted(
            outcome=Outcome.ANSWERED,
            answer=reply.answer,
            version=reply.version,
            usage=reply.usage,
            summarize_seconds=time.monotonic() - started,
        )


def _with_headers(request: HttpRequest, headers: dict[str, str]) -> HttpRequest:
    return request.model_copy(update={"headers": {**request.headers, **headers}})


def _refusal(reason: str | None) -> str:
    why = f": {reason}" if reason else "."
    return f"Not sent: the user refused this call{why}"


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
