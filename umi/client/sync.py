"""The client, sync."""

import time
from collections.abc import Callable, Iterator
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

    def __init__(self, http: httpx.Client, connection: Connection) -> None:
        self._http, self._connection = http, connection
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def take(self, step: object) -> Reply | bytes | Broken | None:
        try:
            match step:
                case Pause(seconds):
                    return time.sleep(seconds)
                case Send(request, streamed):
                    return self._send(request, streamed)
                case _:
                    return next(self._pieces, b"")
        except httpx.RequestError as error:
            return Broken(self._connection.explain(error))

    def _send(self, request: Request[Any], streamed: bool) -> Reply:
        self.close()
        built = self._http.build_request(**self._connection.arguments(request, streamed))
        response = self._response = self._http.send(built, stream=True)
        if streamed and response.is_success:
            self._pieces = response.iter_bytes()
            return Reply(response.status_code, response.headers)
        body = response.read()
        return Reply(response.status_code, response.headers, body)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


class Stream(Iterator[T]):
    """What comes one after the other. Use it in a `with` block to leave it before its end."""

    def __init__(self, flow: Flow[None], wire: _Wire) -> None:
        self._flow, self._wire = flow, wire

    def __next__(self) -> T:
        answer: object = None
        try:
            while True:
                match advance(self._flow, answer):
                    case Emit(value):
                        return value
                    case End():
                        raise StopIteration
                    case step:
                        answer = self._wire.take(step)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; a run goes on without."""
        self._flow.close()
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Resource:
    """A part of the API."""

    def __init__(self, client: "Client") -> None:
        self.client = client


def _asks(make: Callable[P, Request[T]]) -> Callable[Concatenate[Resource, P], T]:
    """The method that sends the request which `make` describes."""

    @wraps(make)
    def method(self: Resource, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.client.do(make(*args, **kwargs))

    return method


def _iterates(make: Callable[P, Many[T]]) -> Callable[Concatenate[Resource, P], Stream[T]]:
    """The method that iterates over what `make` describes."""

    @wraps(make)
    def method(self: Resource, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        return self.client.iterate(make(*args, **kwargs))

    return method


class Queries(Resource):
    """Asking the agent: wait for the answer, watch, or come back later."""

    ask = _asks(requests.ask)
    start = _asks(requests.start)
    stream = _iterates(flows.stream)


class Runs(Resource):
    """What was asked."""

    get = _asks(requests.run)
    cancel = _asks(requests.cancel)
    approve = _asks(requests.approve)
    delete = _asks(requests.delete_run)
    list = _iterates(flows.runs)
    events = _iterates(flows.events)


class Toolsets(Resource):
    """Groups of tools, each from one document."""

    register = _asks(requests.register)
    list = _asks(requests.toolsets)
    get = _asks(requests.toolset)
    versions = _asks(requests.versions)
    version = _asks(requests.version)
    delete = _asks(requests.delete_toolset)


class Tools(Resource):
    """The tools of all toolsets."""

    list = _asks(requests.tools)


class Models(Resource):
    """What OpenAI's clients see."""

    list = _asks(requests.models)


class Client:
    """A gateway at `url` (UMI_GATEWAY, or this machine), asked with `api_key` (UMI_API_KEY, or none).

    `timeout` is the seconds that the gateway may take to answer, beside a query's own deadline; `patience` says how
    often is tried. A client of httpx that is passed as `http`, for proxies or certificates, is left open. Raises
    ValueError for a URL that is none; every method raises ClientError.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        patience: Patience = Patience(),
        http: httpx.Client | None = None,
    ) -> None:
        self._connection, self._patience = Connection.to(url, api_key, timeout), patience
        self._http, self._is_ours = http or httpx.Client(trust_env=False), http is None
        self.queries, self.runs, self.toolsets = Queries(self), Runs(self), Toolsets(self)
        self.tools, self.models = Tools(self), Models(self)

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._connection.url

    def do(self, request: Request[T]) -> T:
        """Send a request, as the methods do."""
        flow, wire = exchange(request, self._patience), _Wire(self._http, self._connection)
        step = advance(flow, None)
        try:
            while not isinstance(step, End):
                step = advance(flow, wire.take(step))
            return step.value
        finally:
            wire.close()

    def iterate(self, many: Many[T]) -> Stream[T]:
        """Iterate, as the methods do."""
        return Stream(many.flow(self._patience), _Wire(self._http, self._connection))

    def close(self) -> None:
        """Close the connections."""
        if self._is_ours:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
