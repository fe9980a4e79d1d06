"""Runs in progress: each is a task of its own, so that it goes on when the client that asked has gone away."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

from gateway.events import Event, Outcome, Payload, RunCompleted, RunCreated
from gateway.loop import Job, Loop
from gateway.metrics import Metrics
from gateway.problems import Conflict
from gateway.store import Claim, Store
from gateway.toolsets import Tool


class Runs:
    """Starts runs and writes their events to the store."""

    def __init__(self, loop: Loop, store: Store, metrics: Metrics) -> None:
        self._loop, self._store, self._metrics = loop, store, metrics
        self._running: dict[str, _Run] = {}

    async def start(
        self,
        query: str,
        tools: dict[str, Tool],
        max_steps: int,
        deadline_seconds: float,
        claim: Claim | None = None,
    ) -> str:
        """Begin a run and return its id; its first event is stored by then.

        With a claim that was made before, nothing begins: the id is that of the run it was made for. Raises Conflict
        when that claim was for another request.
        """
        run_id = uuid.uuid4().hex
        created = RunCreated(query=query, tools=list(tools), max_steps=max_steps, deadline_seconds=deadline_seconds)
        taken = await self._store.create(Event.of(run_id, 0, created), claim)
        if taken is not None:
            if claim is None or taken.digest != claim.digest:
                raise Conflict("this Idempotency-Key was used for another request; use a new one", "idempotency-key")
            return taken.run_id
        job = Job(run_id, query, tools, max_steps, deadline_seconds)
        log = _Log(run_id, self._store, self._metrics)
        task = asyncio.create_task(self._loop.run(job, log.append), name=f"run {run_id}")
        self._running[run_id] = _Run(task, log)
        task.add_done_callback(lambda _: self._running.pop(run_id, None))
        return run_id

    async def finished(self, run_id: str) -> None:
        """Returns when the run has ended, here or in another gateway. Cancelling the wait leaves the run alone."""
        if run := self._running.get(run_id):
            await asyncio.wait([run.task])
        elif await self._store.outcome(run_id) is None:
            async for _ in self._store.follow(run_id, patience=1.0):
                pass

    async def cancel(self, run_id: str) -> None:
        """End a run: its generation is aborted, its tool call dropped. Returns when its end is stored.

        Harmless for a run that has ended. Raises Conflict for one that goes on in another gateway.
        """
        run = self._running.get(run_id)
        if run is None:
            if await self._store.outcome(run_id) is None:
                raise Conflict("the run goes on in another gateway; cancel it there", "run_id")
            return
        run.task.cancel()
        await asyncio.wait([run.task])
        if not run.log.has_ended:
            await run.log.append(RunCompleted(outcome=Outcome.CANCELLED, seconds=time.monotonic() - run.started))

    def is_running(self, run_id: str) -> bool:
        """Whether the run goes on here."""
        return run_id in self._running

    async def stop(self) -> None:
        """Cancel all runs; the log keeps them as unfinished."""
        tasks = [run.task for run in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Log:
    """Numbers a run's events, from the one after its first."""

    def __init__(self, run_id: str, store: Store, metrics: Metrics) -> None:
        self._run_id, self._store, self._metrics, self._next = run_id, store, metrics, 1
        self.has_ended = False

    async def append(self, payload: Payload) -> None:
        event = Event.of(self._run_id, self._next, payload)
        self.has_ended |= event.is_last
        self._next += 1  # before waiting: a wait that is cancelled does not take the event back
        await self._store.append(event)
        if isinstance(payload, RunCompleted):
            self._metrics.completed(payload.outcome)


@dataclass(frozen=True)
class _Run:
    """A run that goes on here."""

    task: asyncio.Task[RunCompleted]
    log: _Log
    started: float = field(default_factory=time.monotonic)
