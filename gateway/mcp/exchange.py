"""What one call to an MCP server may cost, and what became of it.

The client sends requests from tasks of its own; a context variable, which those tasks inherit from whoever called, is
what leads from the bytes on a connection back to the call that they belong to.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from gateway.egress.client import Limits
from umi.errors import NoResponse, TimedOut, TooLarge

_current: ContextVar["Exchange | None"] = ContextVar("exchange", default=None)


@dataclass
class Exchange:
    """One call with all of its HTTP requests. Without a deadline it is one that listens."""

    limits: Limits
    deadline: float | None = None
    """A time of the event loop's clock."""
    received: int = 0
    error: NoResponse | None = None
    """Why there was no response."""
    status: int | None = None
    """The last HTTP status."""
    is_forgotten: bool = False
    """Whether the server did not know the session any more."""
    secrets: set[str] = field(default_factory=set[str])
    """What was sent along that nobody else may read."""

    @property
    def left(self) -> int:
        """How many bytes may still come."""
        return self.limits.bytes - self.received

    def receive(self, count: int) -> None:
        """So many bytes have come. Raises TooLarge."""
        self.received += count
        if self.left < 0:
            raise TooLarge(self.limits.bytes, self.status or 200)

    def fail(self, error: NoResponse) -> None:
        """Note why; the first reason counts."""
        self.error = self.error or error

    @property
    def late(self) -> TimedOut:
        """What to say when the deadline is over."""
        return TimedOut(f"did not answer within {self.limits.seconds:g} s")


@contextmanager
def exchange(limits: Limits) -> Generator[Exchange]:
    """Around one call: all that the client does for it inside counts on it."""
    made = Exchange(limits, asyncio.get_running_loop().time() + limits.seconds)
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)


def listen(limits: Limits) -> Exchange:
    """From here on this task waits for what the server says by itself, as long as it takes."""
    made = Exchange(limits)
    _current.set(made)
    return made


def current() -> Exchange | None:
    """The one that the running task works for."""
    return _current.get()
