"""The commands' side of the gateway's REST API."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from umi.trajectory import JsonObject


class Failed(Exception):
    """A command cannot go on; the message is one sentence for the user."""


class Api:
    """A gateway at `url`, asked with the key in UMI_API_KEY if there is one.

    Every method raises Failed when there is no gateway, or when it refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        key = os.environ.get("UMI_API_KEY", "").strip()
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        """The JSON at `path`."""
        with self._client(30) as client:
            return _content(client.get(path, params=parameters))

    def post(self, path: str, body: JsonObject | None = None) -> Any:
        """The JSON that a POST answers."""
        with self._client(60) as client:
            return _content(client.post(path, json=body))

    def follow(self, run_id: str) -> Iterator[JsonObject]:
        """The events of a run, those stored and those to come."""
        with self._client(60) as client, client.stream("GET", f"/v1/runs/{run_id}/events") as response:
            yield from _events(response)

    def decide(self, run_id: str, step: int, approve: bool, reason: str | None = None) -> JsonObject:
        """The run, which goes on as a person has decided on that step's call."""
        body = {"step": step, "approve": approve, "reason": reason}
        return self.post(f"/v1/runs/{run_id}/approve", body)

    def lines(self, path: str, parameters: dict[str, str]) -> Iterator[str]:
        """The lines at `path`, as they come."""
        with self._client(60) as client, client.stream("GET", path, params=parameters) as response:
            if response.status_code != 200:
                response.read()
                _content(response)
            yield from response.iter_lines()

    def add_toolset(self, body: JsonObject) -> JsonObject:
        """Register a toolset."""
        with self._client(60) as client:
            return _content(client.post("/v1/toolsets", json=body))

    def ask(self, body: JsonObject) -> JsonObject:
        """A run that is finished or waits for approval, or the problem that a role's failure is told with."""
        with self._client(float(body["deadline_seconds"]) + 30) as client:
            response = client.post("/v1/queries", json=body)
            return response.json() if _has_run(response) else _content(response)

    def stream(self, body: JsonObject) -> Iterator[JsonObject]:
        """The events of a new run as they happen."""
        with (
            self._client(60) as client,
            client.stream("POST", "/v1/queries", json={**body, "stream": True}) as response,
        ):
            yield from _events(response)

    @contextmanager
    def _client(self, seconds: float) -> Generator[httpx.Client]:
        timeout = httpx.Timeout(seconds, connect=5)
        try:
            with httpx.Client(base_url=self.url, headers=self._headers, timeout=timeout, trust_env=False) as client:
                yield client
        except httpx.ConnectError as error:
            raise Failed(f"No gateway answers at {self.url}. Start one with: umi up") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Failed(
                f"The connection to the gateway at {self.url} broke: {error or type(error).__name__}"
            ) from error


def _events(response: httpx.Response) -> Iterator[JsonObject]:
    if response.status_code != 200:
        response.read()
        _content(response)
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def _content(response: httpx.Response) -> Any:
    try:
        data = response.json() if response.content else None
    except ValueError as error:
        raise Failed(f"{response.url} is not a UMi gateway: it answers {response.status_code}, not JSON.") from error
    if response.is_success:
        return data
    detail = data.get("detail") if isinstance(data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if response.status_code == 401:
        raise Failed(f"The gateway at {response.url.copy_with(path='/')} wants a key: set UMI_API_KEY to a valid one.")
    raise Failed(f"The gateway refuses ({response.status_code}): {detail or response.reason_phrase}")


def _has_run(response: httpx.Response) -> bool:
    try:
        return "run_id" in response.json()
    except ValueError:
        return False
