"""What is sent, in which order, and what happens when it fails, as generators that do no I/O themselves.

A flow yields steps and is sent what came of each: a `Send` is answered with a Reply or Broken, a `Read` with bytes
(none at the end of the body) or Broken, a `Pause` and an `Emit` with nothing. The sync and the async client differ in
how they take a step, and in nothing else.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

from pydantic import ValidationError

from umi.client import requests
from umi.client.errors import NotConnected, NotUnderstood, Refused, RunFailed, refusal
from umi.client.events import Event, read_event
from umi.client.requests import QueryOptions, Request
from umi.client.results import RunSummary
from umi.patience import backoff
from umi.sse import Parser

T = TypeVar("T")
_LATER = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Reply:
    """A response; of one that is streamed the body is there only if it is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Broken:
    """No connection, or one that broke."""

    reason: str


@dataclass(frozen=True)
class Send:
    """Send a request; of a streamed one the body is then read in pieces, until something else is sent."""

    request: Request[Any]
    streamed: bool = False


@dataclass(frozen=True)
class Read:
    """Read the next piece of the response."""


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Emit(Generic[T]):
    """Give `value` to whoever iterates."""

    value: T


@dataclass(frozen=True)
class End(Generic[T]):
    """The flow is over and has come to `value`."""

    value: T


Flow = Generator[Send | Read | Pause | Emit[Any], Any, T]


@dataclass(frozen=True)
class Patience:
    """How often a request is sent again, and for how many seconds a stream that has begun is tried to be resumed
    without anything new. Nobody waits longer than `longest` seconds at a time: what asks for more is an error."""

    retries: int = 3
    resume_seconds: float = 60.0
    longest: float = 60.0


@dataclass(frozen=True)
class Many(Generic[T]):
    """Something to iterate over: the flow emits each T."""

    flow: Callable[[Patience], Flow[None]]


def advance(flow: Flow[T], answer: object) -> Send | Read | Pause | Emit[Any] | End[T]:
    """The flow's next step, after what came of the last one (None at the beginning)."""
    try:
        return flow.send(answer)
    except StopIteration as over:
        return End(over.value)


def exchange(request: Request[T], patience: Patience) -> Flow[T]:
    """One request until it is answered. Raises ClientError."""
    tried = 0
    while True:
        tried += 1
        reply: Reply | Broken = yield Send(request)
        if isinstance(reply, Reply) and (reply.status < 300 or _is_gone(request, reply, tried)):
            return _understood(request.read, reply.body)
        error = _error(reply)
        if tried > patience.retries or not _may_help(error):
            raise error
        yield Pause(_seconds(error, tried, patience))


def follow(first: Request[None], patience: Patience) -> Flow[None]:
    """The events of a run to its last one, each once and in order, over as many connections as that takes.

    Raises ClientError: when the stream does not begin, or cannot be resumed.
    """
    request, place = first, _Place()
    while (error := (yield from _listen(request, place))) is not None:
        place.tried += 1
        has_begun = place.run_id is not None
        exhausted = place.waited > patience.resume_seconds if has_begun else place.tried > patience.retries
        if exhausted or not _may_help(error):
            raise NotConnected(str(error), place.run_id) if isinstance(error, NotConnected) else error
        seconds = _seconds(error, place.tried, patience)
        place.waited += seconds
        yield Pause(seconds)
        if place.run_id is not None:
            request = requests.events(place.run_id, after=place.mark)


@dataclass
class _Place:
    """How far a stream has been read, and what was tried in vain since."""

    run_id: str | None = None
    seen: int = -1
    """The number of the newest event."""
    mark: int | str = -1
    """Where the gateway goes on: what it gave as the newest message's id."""
    tried: int = 0
    waited: float = 0.0


def _listen(request: Request[None], place: _Place) -> Flow[NotConnected | Refused | None]:
    """Emit what one connection brings beyond `place`; returns why it ended, None when there is no more to come."""
    reply: Reply | Broken = yield Send(request, streamed=True)
    if isinstance(reply, Broken) or reply.status >= 300:
        return _error(reply)
    if reply.status == 204:
        return None
    parser = Parser()
    while True:
        piece: bytes | Broken = yield Read()
        if isinstance(piece, Broken) or not piece:
            return NotConnected(f"the stream broke: {piece.reason if isinstance(piece, Broken) else 'it ended early'}")
        for message in parser.feed(piece):
            event = _understood(read_event, message.data)
            if event.seq <= place.seen:
                continue
            place.run_id, place.tried, place.waited = event.run_id, 0, 0.0
            place.seen = place.seen if event.is_part else event.seq
            place.mark = message.id or place.seen
            yield Emit(event)
            if event.is_last:
                return None


def stream(query: str, **options: Unpack[QueryOptions]) -> Many[Event]:
    """Begin a run and iterate over its events as they happen. A connection that breaks is taken up again."""
    return Many(lambda patience: follow(requests.stream(query, **options), patience))


def events(run_id: str, after: int = -1) -> Many[Event]:
    """A run's events beyond number `after`: those stored, then those to come."""
    return Many(lambda patience: follow(requests.events(run_id, after), patience))


def runs(outcome: str | None = None, page_size: int = 50) -> Many[RunSummary]:
    """All runs, newest first, fetched page by page; `outcome` may also be running."""
    return Many(lambda patience: _pages(outcome, page_size, patience))


def _pages(outcome: str | None, page_size: int, patience: Patience) -> Flow[None]:
    cursor = None
    while True:
        page = yield from exchange(requests.runs(outcome, page_size, cursor), patience)
        for run in page.runs:
            yield Emit(run)
        if (cursor := page.next) is None:
            return


def lines(path: str, parameters: Mapping[str, str]) -> Many[str]:
    """The lines of a long answer, as they come. What breaks is not resumed."""
    return Many(lambda _: _lines(Request("GET", path, lambda _: None, parameters)))


def _lines(request: Request[None]) -> Flow[None]:
    reply: Reply | Broken = yield Send(request, streamed=True)
    if isinstance(reply, Broken) or reply.status >= 300:
        raise _error(reply)
    rest = b""
    while piece := (yield Read()):
        if isinstance(piece, Broken):
            raise NotConnected(piece.reason)
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield Emit(line.decode("utf-8", "replace"))


def _understood(read: Callable[[Any], T], body: object) -> T:
    try:
        return read(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise NotUnderstood(
            f"what answers is not a UMi gateway that this client knows: {where}: {wrong['msg']}"
        ) from error


def _error(reply: Reply | Broken) -> NotConnected | Refused:
    if isinstance(reply, Broken):
        return NotConnected(reply.reason)
    return refusal(reply.status, reply.headers, reply.body)


def _may_help(error: NotConnected | Refused) -> bool:
    """Whether the same request may be answered otherwise. A run that failed has failed, however often it is asked."""
    if isinstance(error, RunFailed):
        return False
    return isinstance(error, NotConnected) or error.status in _LATER


def _seconds(error: NotConnected | Refused, tried: int, patience: Patience) -> float:
    """How long to wait. Raises the error when that is too long."""
    asked = error.retry_after or 0.0 if isinstance(error, Refused) else 0.0
    if asked > patience.longest:
        raise error
    return max(backoff(tried), asked)


def _is_gone(request: Request[Any], reply: Reply, tried: int) -> bool:
    """Whether an earlier try, whose answer was lost, has deleted what is not there now."""
    return request.method == "DELETE" and reply.status == 404 and tried > 1
