"""Runs in progress: each is a task of its own, so that it goes on when the client that asked has gone away."""

import asyncio
import uuid

from gateway.events import Event, Payload, RunCreated
from gateway.loop import Job, Loop
from gateway.store import Store
from gateway.toolsets import Tool


class Runs:
    """Starts runs and writes their events to the store."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self._loop, self._store = loop, store
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, query: str, tools: dict[str, Tool], max_steps: int, deadline_seconds: float) -> str:
        """Begin a run and return its id; its first event is stored by then."""
        run_id = uuid.uuid4().hex
        job = Job(run_id, query, tools, max_steps, deadline_seconds)
        log = _Log(run_id, self._store)
        await log.append(
            RunCreated(query=query, tools=list(tools), max_steps=max_steps, deadline_seconds=deadline_seconds)
        )
        task = asyncio.create_task(self._run(job, log), name=f"run {run_id}")
        self._tasks[run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run_id, None))
        return run_id

    async def finished(self, run_id: str) -> None:
        """Returns when the run has ended. Cancelling the wait leaves the run alone."""
        if task := self._tasks.get(run_id):
            await asyncio.wait([task])

    async def stop(self) -> None:
        """Cancel all runs; the log keeps them as unfinished."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, log: "_Log") -> None:
        await self._loop.run(job, log.append)


class _Log:
    """Numbers a run's events."""

    def __init__(self, run_id: str, store: Store) -> None:
        self._run_id, self._store, self._next = run_id, store, 0

    async def append(self, payload: Payload) -> None:
        event = Event.of(self._run_id, self._next, payload)
        self._next += 1  # before waiting: a wait that is cancelled does not take the event back
        await self._store.append(event)
