"""The commands' side of the gateway's REST API: its client, with plain JSON and errors of one sentence."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from umi.client import Client, ClientError, NotConnected, Patience, Refused, RunFailed, Unauthorized, flows
from umi.client.requests import Request, as_json
from umi.trajectory import JsonObject

_START = "Start one with: umi up"


class Failed(Exception):
    """A command cannot go on; the message is one sentence for the user."""


class Api:
    """A gateway at `url`, asked with the key in UMI_API_KEY if there is one.

    Every method raises Failed when there is no gateway, or when it refuses. Nothing is tried twice, since somebody
    waits at a terminal; a stream that has begun is resumed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        """The JSON at `path`."""
        with self._client() as client:
            return client.do(Request("GET", path, as_json, parameters or {}))

    def post(self, path: str, body: JsonObject | None = None) -> Any:
        """The JSON that a POST answers."""
        with self._client() as client:
            return client.do(Request("POST", path, as_json, body=body, seconds=30.0))

    def follow(self, run_id: str) -> Iterator[JsonObject]:
        """The events of a run, those stored and those to come."""
        with self._client() as client, client.runs.events(run_id) as events:
            yield from (event.model_dump(mode="json") for event in events)

    def decide(self, run_id: str, step: int, approve: bool, reason: str | None = None) -> JsonObject:
        """The run, which goes on as a person has decided on that step's call."""
        with self._client() as client:
            return client.runs.approve(run_id, step, approve, reason).model_dump(mode="json")

    def lines(self, path: str, parameters: dict[str, str]) -> Iterator[str]:
        """The lines at `path`, as they come."""
        with self._client() as client, client.iterate(flows.lines(path, parameters)) as lines:
            yield from lines

    def add_toolset(self, body: JsonObject) -> JsonObject:
        """Register a toolset."""
        with self._client() as client:
            return client.toolsets.register(**body).model_dump(mode="json")

    def remove_toolset(self, name: str) -> None:
        """Forget a toolset."""
        with self._client() as client:
            client.toolsets.delete(name)

    def ask(self, body: JsonObject) -> JsonObject:
        """A run that is finished or waits for approval, or the problem that a role's failure is told with."""
        with self._client() as client:
            try:
                return client.queries.ask(**body).model_dump(mode="json")
            except RunFailed as error:
                return error.problem.model_dump(mode="json", exclude_none=True)

    def stream(self, body: JsonObject) -> Iterator[JsonObject]:
        """The events of a new run as they happen."""
        with self._client() as client, client.queries.stream(**body) as events:
            yield from (event.model_dump(mode="json") for event in events)

    @contextmanager
    def _client(self) -> Generator[Client]:
        try:
            with Client(self.url, patience=Patience(retries=0)) as client:
                yield client
        except NotConnected as error:
            hint = (
                " Start one with: umi up" if error.run_id is None else f" Its run goes on: umi runs show {error.run_id}"
            )
            raise Failed(f"{_sentence(error)}{hint}") from error
        except Unauthorized as error:
            raise Failed(f"The gateway at {self.url} wants a key: set UMI_API_KEY to a valid one.") from error
        except Refused as error:
            raise Failed(f"The gateway refuses ({error.status}): {error}") from error
        except (ClientError, ValueError) as error:
            raise Failed(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
