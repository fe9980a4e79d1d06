"""Runs in progress: each is a task of its own, so that it goes on when the client that asked has gone away.

A run belongs to the gateway that holds its lease. A gateway that dies loses its leases, and another one on the same
database, or itself after a restart, goes on with its runs from their logs.

A run that waits for a person belongs to none: it is only in the store, holds no turn, and its time stands still. The
gateway that is told of the decision goes on with it; the one that sees that nobody decided in time ends it.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from sqlalchemy.exc import SQLAlchemyError

from gateway.deltas import Draft
from gateway.events import Approval, Event, Outcome, Payload, RequiresAction, RunCompleted, RunCreated
from gateway.loop import Job, Loop
from gateway.metrics import Metrics
from gateway.past import Past, past_of, seconds_of_work, tools_of
from gateway.problems import Conflict, NotStored, TooMany
from gateway.store import Claim, Exceeded, Key, Lease, RunStore, Taken
from gateway.tools.catalogue import Catalogue, Tool
from gateway.tools.toolsets import Registry
from gateway.tracing import RunSpan
from gateway.turns import Turns
from umi import logs
from umi.wire import Heard

_log = logging.getLogger("umi.gateway")
_MOMENT = 0.5


class Runs:
    """Starts runs and writes their events to the store; an async context manager that keeps the leases meanwhile."""

    def __init__(
        self,
        loop: Loop,
        store: RunStore,
        metrics: Metrics,
        registry: Registry,
        turns: Turns,
        lease_seconds: float,
        drain_seconds: float,
    ) -> None:
        self._loop, self._store, self._metrics, self._turns = loop, store, metrics, turns
        self._registry, self._lease_seconds, self._owner = registry, lease_seconds, uuid.uuid4().hex
        self._drain_seconds, self._is_leaving = drain_seconds, False
        self._running: dict[str, _Run] = {}
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._watching = [
            asyncio.create_task(self._keep(), name="leases"),
            asyncio.create_task(self._heed(), name="cancelling"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give runs a while to end, stop the others where they are, and leave them to whoever comes next."""
        self._is_leaving = True
        if self._running:
            await asyncio.wait([run.task for run in self._running.values()], timeout=self._drain_seconds)
        left = list(self._running.values())
        tasks: list[asyncio.Task[Any]] = [*self._watching, *(run.task for run in left)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in left:
            await run.log.written()
            run.log.leave()
        await self._store.release(self._owner)

    async def start(
        self,
        key: Key,
        query: str,
        tools: dict[str, Tool],
        max_steps: int,
        deadline_seconds: float,
        claim: Claim | None = None,
        catalogue: Catalogue | None = None,
        webhook: str | None = None,
        is_watched: bool = False,
    ) -> str:
        """Begin a run for whoever has `key` and return its id; its first event is stored by then.

        More tools may come from `catalogue` when the planner misses one; without it, `tools` are all there is.
        `webhook` is the URL that is told of the run's end. `is_watched`: somebody will read its texts while they are
        written.
        With a claim that was made before, nothing begins: the id is that of the run it was made for. Raises Conflict
        when that claim was for another request, and TooMany when the key's limits leave no room.
        """
        run_id = uuid.uuid4().hex
        span = RunSpan.begin(run_id, key.tenant, query)
        created = RunCreated(
            query=query,
            tools=list(tools),
            sources={name: tool.source for name, tool in tools.items()},
            max_steps=max_steps,
            deadline_seconds=deadline_seconds,
            may_add=catalogue is not None,
            traceparent=span.traceparent,
        )
        first = Event.of(run_id, 0, created)
        job = Job(run_id, query, tools, max_steps, deadline_seconds, catalogue=catalogue)
        begin = partial(self._begin, job, key.tenant, span, [first], is_watched=is_watched)
        may_be_refused = claim is not None or key.has_quota
        if not may_be_refused:  # the planner thinks meanwhile; should storing it fail, the run's next event fails too
            begin()
        taken = await self._store.create(first, key, claim, self._lease, webhook)
        if isinstance(taken, Exceeded):
            raise TooMany(f"this key may use {taken.limit} {taken.what}", taken.limit, taken.retry_after)
        if taken is not None:
            if claim is None or taken.digest != claim.digest:
                raise Conflict("this Idempotency-Key was used for another request; use a new one", "idempotency-key")
            return taken.run_id
        if may_be_refused:
            begin()
        return run_id

    async def settled(self, run_id: str) -> list[Event]:
        """The run's events once it has ended, here or in another gateway, or waits for approval.

        Cancelling the wait leaves the run alone.
        """
        run = self._running.get(run_id)  # held to the end, and with it the events
        if run:
            await run.log.settled.wait()
        if not (run and run.log.is_whole) and await self._store.outcome(run_id) is None:
            async for event in self._store.follow(run_id, patience=1.0):
                asks = event is not None and event.type == RequiresAction.type
                if asks and await self._store.is_waiting(run_id):
                    break
        return await self._store.events(run_id)

    async def decide(self, run_id: str, approval: Approval) -> bool:
        """Go on with a run that waits, here, as a person has decided; their decision is stored by then.

        False, and nothing is done, when the run does not wait with that step's call, or not any more.
        """
        taken = await self._store.decide(run_id, approval, self._lease, time.time())
        if taken is None:
            return False
        self._metrics.decided(approval.approve)
        await self._resume(taken)
        return True

    async def cancel(self, run_id: str) -> None:
        """End a run: its generation is aborted, its tool call dropped. Returns when its end is stored.

        Harmless for a run that has ended. One that goes on in another gateway soon ends there; if that gateway is gone,
        it ends when another has taken it over.
        """
        if run := self._running.get(run_id):
            await self._end(run)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._lease_seconds + 10):
                while await self._store.outcome(run_id) is None:
                    if taken := await self._store.take_waiting(run_id, self._lease):
                        await self._end_waiting(taken, Outcome.CANCELLED)
                    else:
                        await self._store.ask_to_cancel(run_id)
                        await self.settled(run_id)

    async def _end(self, run: "_Run") -> None:
        """Unless it has ended, or left for a person to decide, meanwhile."""
        run.task.cancel()
        await asyncio.wait([run.task])
        if not run.log.is_over:
            seconds = run.job.spent_seconds + time.monotonic() - run.started
            await run.log.append(RunCompleted(outcome=Outcome.CANCELLED, seconds=seconds))

    async def _end_waiting(self, run: Taken, outcome: Outcome) -> None:
        """End a run that waited and has been taken. Raises NotStored."""
        events = await self._store.events(run.run_id)
        created = events[0].data
        assert isinstance(created, RunCreated)
        span = RunSpan.begin(run.run_id, run.tenant, created.query, created.traceparent)
        log = _Log(run.run_id, self._owner, self._store, self._metrics, span, events)
        await log.append(RunCompleted(outcome=outcome, seconds=seconds_of_work(events, time.time())))

    def is_running(self, run_id: str) -> bool:
        """Whether the run goes on here."""
        return run_id in self._running

    async def _heed(self) -> None:
        """Cancel runs that other gateways were asked to cancel."""
        while True:
            await asyncio.sleep(_MOMENT)
            try:
                for run_id in await self._store.to_cancel(self._owner):
                    if run := self._running.get(run_id):
                        await self._end(run)
            except (SQLAlchemyError, NotStored):
                _log.exception("a run could not be cancelled; trying again")

    async def _keep(self) -> None:
        """Renew the leases, and take over runs whose gateway is gone."""
        while True:
            try:
                await self._store.renew(self._lease, self._running)
                if not self._is_leaving:
                    for run in await self._store.take_orphans(self._lease, time.time()):
                        await self._resume(run)
            except (SQLAlchemyError, NotStored):
                _log.exception("the leases could not be renewed, or a run not be taken over; trying again")
            await asyncio.sleep(self._lease_seconds / 3)

    @property
    def _lease(self) -> Lease:
        return Lease(owner=self._owner, until=time.time() + self._lease_seconds)

    async def _resume(self, run: Taken) -> None:
        events = await self._store.events(run.run_id)
        if events[-1].type == RequiresAction.type:  # nobody has decided in time
            return await self._end_waiting(run, Outcome.EXPIRED)
        created = events[0].data
        assert isinstance(created, RunCreated)
        tools = await self._registry.earlier(run.tenant, tools_of(events))
        spent = seconds_of_work(events, time.time())
        more = self._registry.catalogue(run.tenant) if created.may_add else None
        job = Job(run.run_id, created.query, tools, created.max_steps, created.deadline_seconds, spent, more)
        with logs.bound(run_id=run.run_id, tenant=run.tenant):
            _log.info("going on with run %s from its event %d", run.run_id, events[-1].seq)
        span = RunSpan.begin(run.run_id, run.tenant, created.query, created.traceparent)
        self._begin(job, run.tenant, span, events, past_of(job.trajectory, events))

    def _begin(
        self,
        job: Job,
        tenant: str,
        span: RunSpan,
        events: list[Event],
        past: Past | None = None,
        is_watched: bool = False,
    ) -> None:
        log = _Log(job.run_id, self._owner, self._store, self._metrics, span, events, is_watched)
        with logs.bound(run_id=job.run_id, tenant=tenant, trace_id=span.trace_id), span.current():
            task = asyncio.create_task(self._go(job, tenant, log, past), name=f"run {job.run_id}")
            run = self._running[job.run_id] = _Run(job, task, log)
            task.add_done_callback(lambda _: self._over(job.run_id, run))

    async def _go(self, job: Job, tenant: str, log: "_Log", past: Past | None) -> None:
        """Wait for the run's turn and take it. Waiting is a part of the run's time."""
        began = time.monotonic()
        try:
            with self._metrics.waiting():
                async with asyncio.timeout(job.left_seconds):
                    await self._turns.take(tenant)
        except TimeoutError:
            seconds = job.spent_seconds + time.monotonic() - began
            await log.append(RunCompleted(outcome=Outcome.DEADLINE, seconds=seconds))
            return
        try:
            spent = job.spent_seconds + time.monotonic() - began
            await self._loop.run(replace(job, spent_seconds=spent), log, past)
        finally:
            self._turns.give_back(tenant)

    def _over(self, run_id: str, run: "_Run") -> None:
        """A run's task has ended. One that could not store its events is left: its lease lapses, its log is whole."""
        if self._running.get(run_id) is run:
            del self._running[run_id]
        if run.task.cancelled():
            return
        run.log.leave()
        if error := run.task.exception():
            _log.error("run %s does not go on here: %s", run_id, error, exc_info=error)


class _Log:
    """A run's events beyond those there are, numbered, stored one after the other and counted.

    After one that was not stored there is no next: it would leave a gap.
    """

    def __init__(
        self,
        run_id: str,
        owner: str,
        store: RunStore,
        metrics: Metrics,
        span: RunSpan,
        events: list[Event],
        is_watched: bool = False,
    ) -> None:
        self._is_watched = is_watched
        self._run_id, self._owner, self._store, self._metrics = run_id, owner, store, metrics
        self._next, self._tail = len(events), store.is_here(run_id, events)
        self.span = span
        self._unstored, self._is_stored = 0, asyncio.Event()
        self._is_stored.set()
        self._broken: NotStored | None = None
        """Why an event was not stored."""
        self.is_over = False
        """Whether its newest event ends the run, or leaves it to a person."""
        self.settled = asyncio.Event()
        """Set once that is stored, or the run does not go on here."""

    @property
    def is_whole(self) -> bool:
        """Whether all that happened was stored."""
        return self._broken is None

    def note(self, payload: Payload) -> None:
        """Store it after all that came before, and do not wait for that. Raises NotStored when one of those was not."""
        self._put(payload, later=True)

    async def append(self, payload: Payload) -> None:
        """Returns when it is stored. Raises NotStored; cancelling the wait does not take the event back."""
        self._put(payload, later=False)
        await self.written()
        if self._broken is not None:
            raise self._broken

    def _put(self, payload: Payload, later: bool) -> None:
        if self._broken is not None:
            raise self._broken
        event = Event.of(self._run_id, self._next, payload)
        self.is_over |= isinstance(payload, RunCompleted | RequiresAction)
        self._next += 1
        self._unstored += 1
        self._is_stored.clear()
        self._store.put(self._owner, event, lambda problem: self._stored(payload, problem), later)

    def draft(self, kind: str) -> Heard | None:
        """Shows the text of the next event while it is written, as events of type `kind`; None when nobody looks."""
        if not self._is_watched and not self._store.is_watched(self._run_id):
            return None
        seq = self._next
        return lambda text: self._store.show(self._run_id, Draft(seq=seq, type=kind, text=text))

    async def written(self) -> None:
        """Returns when there is nothing left to be stored."""
        await self._is_stored.wait()

    def leave(self) -> None:
        """The run does not go on here. Harmless after its end."""
        self.span.left()
        self.settled.set()
        if not self.is_over:
            self._tail.is_whole = False

    def _stored(self, payload: Payload, problem: NotStored | None) -> None:
        self._unstored -= 1
        if not self._unstored:
            self._is_stored.set()
        if problem is not None:
            self._broken = self._broken or problem
            self.settled.set()
            return
        if isinstance(payload, RunCompleted | RequiresAction):
            self.settled.set()
        if isinstance(payload, RunCompleted):
            self._metrics.completed(payload.outcome, payload.seconds)
            self.span.completed(payload)
            _log.info("run %s: %s after %.3f s", self._run_id, payload.outcome, payload.seconds)
        elif isinstance(payload, RequiresAction):
            self.span.asked()


@dataclass(frozen=True)
class _Run:
    """A run that goes on here."""

    job: Job
    task: asyncio.Task[None]
    log: _Log
    started: float = field(default_factory=time.monotonic)
