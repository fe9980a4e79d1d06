"""Events and leases of runs in tests of the store."""

import time

from gateway.events import Event, Outcome, RunCompleted, RunCreated
from gateway.store import Lease

FOR_LONG = time.time() + 3600
A, B = Lease(owner="a", until=FOR_LONG), Lease(owner="b", until=FOR_LONG)


def created(run_id: str) -> Event:
    """The first event of a run."""
    return Event.of(run_id, 0, RunCreated(query="q\0", tools=[], max_steps=8, deadline_seconds=60))


def completed(run_id: str, seq: int) -> Event:
    """The last one."""
    return Event.of(run_id, seq, RunCompleted(outcome=Outcome.ANSWERED, answer="a"))
