"""The client, async. What it sends and when is said in flows.py; this differs from sync.py in awaiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from umi.client import flows, requests
from umi.client.connection import Connection
from umi.client.flows import Broken, Emit, End, Flow, Many, Patience, Pause, Reply, Send, advance, exchange
from umi.client.requests import Request

P = ParamSpec("P")
T = TypeVar("T")


class _Wire:
    """Takes the steps of one flow over httpx."""

    def __init__(self, http: httpx.AsyncClient, connection: Connection) -> None:
        self._http, self._connection = http, connection
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def take(self, step: object) -> Reply | bytes | Broken | None:
        try:
            match step:
                case Pause(seconds):
                    return await asyncio.sleep(seconds)
                case Send(request, streamed):
                    return await self._send(request, streamed)
                case _:
                    assert self._pieces is not None
                    return await anext(self._pieces, b"")
        except httpx.RequestError as error:
            return Broken(self._connection.explain(error))

    async def _send(self, request: Request[Any], streamed: bool) -> Reply:
        await self.close()
        built = self._http.build_request(**self._connection.arguments(request, streamed))
        response = self._response = await self._http.send(built, stream=True)
        if streamed and response.is_success:
            self._pieces = response.aiter_bytes()
            return Reply(response.status_code, response.headers)
        body = await response.aread()
        return Reply(response.status_code, response.headers, body)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None


class AsyncStream(AsyncIterator[T]):
    """What comes one after the other. Use it in an `async with` block to leave it before its end."""

    def __init__(self, flow: Flow[None], wire: _Wire) -> None:
        self._flow, self._wire = flow, wire

    async def __anext__(self) -> T:
        answer: object = None
        try:
            while True:
                match advance(self._flow, answer):
                    case Emit(value):
                        return value
                    case End():
                        raise StopAsyncIteration
                    case step:
                        answer = await self._wire.take(step)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection; a run goes on without."""
        self._flow.close()
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncResource:
    """A part of the API."""

    def __init__(self, client: "AsyncClient") -> None:
        self.client = client


def _asks(make: Callable[P, Request[T]]) -> Callable[Concatenate[AsyncResource, P], Coroutine[Any, Any, T]]:
    """The method that sends the request which `make` describes."""

    @wraps(make)
    async def method(self: AsyncResource, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.client.do(make(*args, **kwargs))

    return method


def _iterates(make: Callable[P, Many[T]]) -> Callable[Concatenate[AsyncResource, P], AsyncStream[T]]:
    """The method that iterates over what `make` describes."""

    @wraps(make)
    def method(self: AsyncResource, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[T]:
        return self.client.iterate(make(*args, **kwargs))

    return method


class AsyncQueries(AsyncResource):
    """Asking the agent: wait for the answer, watch, or come back later."""

    ask = _asks(requests.ask)
    start = _asks(requests.start)
    stream = _iterates(flows.stream)


class AsyncRuns(AsyncResource):
    """What was asked."""

    get = _asks(requests.run)
    cancel = _asks(requests.cancel)
    approve = _asks(requests.approve)
    delete = _asks(requests.delete_run)
    list = _iterates(flows.runs)
    events = _iterates(flows.events)


class AsyncToolsets(AsyncResource):
    """Groups of tools, each from one document."""

    register = _asks(requests.register)
    list = _asks(requests.toolsets)
    get = _asks(requests.toolset)
    versions = _asks(requests.versions)
    version = _asks(requests.version)
    delete = _asks(requests.delete_toolset)


class AsyncTools(AsyncResource):
    """The tools of all toolsets."""

    list = _asks(requests.tools)


class AsyncModels(AsyncResource):
    """What OpenAI's clients see."""

    list = _asks(requests.models)


class AsyncClient:
    """As `Client`, with methods to be awaited; `http` is an AsyncClient of httpx."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        patience: Patience = Patience(),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._connection, self._patience = Connection.to(url, api_key, timeout), patience
        self._http, self._is_ours = http or httpx.AsyncClient(trust_env=False), http is None
        self.queries, self.runs, self.toolsets = AsyncQueries(self), AsyncRuns(self), AsyncToolsets(self)
        self.tools, self.models = AsyncTools(self), AsyncModels(self)

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._connection.url

    async def do(self, request: Request[T]) -> T:
        """Send a request, as the methods do."""
        flow, wire = exchange(request, self._patience), _Wire(self._http, self._connection)
        step = advance(flow, None)
        try:
            while not isinstance(step, End):
                step = advance(flow, await wire.take(step))
            return step.value
        finally:
            await wire.close()

    def iterate(self, many: Many[T]) -> AsyncStream[T]:
        """Iterate, as the methods do."""
        return AsyncStream(many.flow(self._patience), _Wire(self._http, self._connection))

    async def close(self) -> None:
        """Close the connections."""
        if self._is_ours:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
