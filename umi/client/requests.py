"""Every endpoint once, as a description of what is to be sent and how the answer is read. Nothing here does I/O."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from pydantic import TypeAdapter

from umi.client import results
from umi.client.results import (
    Model,
    RegisteredToolset,
    Run,
    RunPage,
    Tool,
    Toolset,
    ToolsetVersion,
    VersionContent,
)
from umi.trajectory import JsonObject

T = TypeVar("T")
DEADLINE_SECONDS = 120.0
"""A query's deadline at the gateway when none is given."""


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request that may be sent more than once, and what makes of the body of its answer a T.

    `seconds` is how long the gateway may take to begin the answer, beside the client's own timeout.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    body: JsonObject | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0


class QueryOptions(TypedDict, total=False):
    """What a query may say besides the question. With the same `idempotency_key` it is the same run, asked again."""

    tools: list[str]
    max_steps: int
    deadline_seconds: float
    idempotency_key: str


class ToolsetOptions(TypedDict, total=False):
    """Where a toolset's OpenAPI document is, by `url` or as it is, and what its calls may do.

    `base_url` replaces the document's servers; `allow` names hosts and networks that may be reached though they are not
    public; `select` says which operations become tools, `secrets` of security schemes where their secrets are, `mcp`
    where an MCP server is, `policy` and `tool_policy` what may be called without a person's approval (docs/tools.md).
    """

    url: str
    document: JsonObject
    base_url: str
    allow: list[str]
    select: JsonObject
    secrets: dict[str, str]
    mcp: JsonObject
    policy: str
    tool_policy: dict[str, str]


def _nothing(_: bytes) -> None:
    return None


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    return TypeAdapter(kind).validate_json


as_json = TypeAdapter[Any](Any).validate_json
"""Reads any JSON as it is."""
_run, _page, _models = _reader(Run), _reader(RunPage), _reader(results.Models)
_versions, _version = _reader(list[ToolsetVersion]), _reader(VersionContent)
_tools, _toolsets, _registered = _reader(list[Tool]), _reader(list[Toolset]), _reader(RegisteredToolset)


def ask(query: str, **options: Unpack[QueryOptions]) -> Request[Run]:
    """Run a query to its end. Raises RunFailed when a role failed; any other end is the run's `outcome`."""
    seconds = options.get("deadline_seconds", DEADLINE_SECONDS)
    return _query(_run, {"query": query}, options, seconds)


def start(query: str, **options: Unpack[QueryOptions]) -> Request[Run]:
    """Begin a run in the background and return it as it is now."""
    return _query(_run, {"query": query, "background": True}, options)


def stream(query: str, **options: Unpack[QueryOptions]) -> Request[None]:
    """Begin a run whose events are the answer."""
    return _query(_nothing, {"query": query, "stream": True}, options)


def _query(read: Callable[[bytes], T], body: JsonObject, options: QueryOptions, seconds: float = 0.0) -> Request[T]:
    rest: dict[str, Any] = {**options}
    key = str(rest.pop("idempotency_key", None) or uuid.uuid4().hex)
    return Request("POST", "/v1/queries", read, {}, body | rest, {"idempotency-key": key}, seconds)


def run(run_id: str) -> Request[Run]:
    """A run as it is now."""
    return Request("GET", _path("runs", run_id), _run)


def runs(outcome: str | None = None, limit: int = 50, cursor: str | None = None) -> Request[RunPage]:
    """One page of runs, newest first; `outcome` may also be running."""
    given = {"outcome": outcome, "limit": str(limit), "cursor": cursor}
    return Request("GET", "/v1/runs", _page, {name: value for name, value in given.items() if value is not None})


def events(run_id: str, after: int | str = -1) -> Request[None]:
    """A run's events beyond number `after`, or beyond a message's id: those stored, then those to come."""
    return Request("GET", _path("runs", run_id, "events"), _nothing, headers={"last-event-id": str(after)})


def cancel(run_id: str) -> Request[Run]:
    """End a run now; one that has ended stays as it is. Returns the run."""
    return Request("POST", _path("runs", run_id, "cancel"), _run, seconds=60.0)


def approve(run_id: str, step: int, approve: bool = True, reason: str | None = None) -> Request[Run]:
    """Let the call that a run waits with be sent, or refuse it. Raises Conflict when it waits with another, or not."""
    body = {"step": step, "approve": approve, "reason": reason}
    return Request("POST", _path("runs", run_id, "approve"), _run, body=body)


def delete_run(run_id: str) -> Request[None]:
    """Forget a run that has ended. Raises Conflict for one that goes on."""
    return Request("DELETE", _path("runs", run_id), _nothing)


def register(name: str, **options: Unpack[ToolsetOptions]) -> Request[RegisteredToolset]:
    """Register a toolset; one of that name is replaced."""
    return Request("POST", "/v1/toolsets", _registered, body={"name": name, **options}, seconds=30.0)


def toolsets() -> Request[list[Toolset]]:
    """All toolsets in order of registration."""
    return Request("GET", "/v1/toolsets", _toolsets)


def toolset(name: str) -> Request[RegisteredToolset]:
    """A toolset as it is now."""
    return Request("GET", _path("toolsets", name), _registered)


def versions(name: str) -> Request[list[ToolsetVersion]]:
    """The versions of a toolset that are kept, the newest first; also of one that was deleted."""
    return Request("GET", _path("toolsets", name, "versions"), _versions)


def version(name: str, version: int) -> Request[VersionContent]:
    """A toolset as it was registered then; also of one that was deleted."""
    return Request("GET", _path("toolsets", name, "versions", str(version)), _version)


def delete_toolset(name: str) -> Request[None]:
    """Forget a toolset, but not its versions; runs in progress keep it."""
    return Request("DELETE", _path("toolsets", name), _nothing)


def tools(query: str | None = None) -> Request[list[Tool]]:
    """All tools, or those that a query would be offered."""
    return Request("GET", "/v1/tools", _tools, {} if query is None else {"query": query})


def models() -> Request[list[Model]]:
    """The models that OpenAI's clients see."""
    return Request("GET", "/v1/models", lambda body: _models(body).data)


def _path(*parts: str) -> str:
    """A path of one segment for each part, whatever is in it. Raises ValueError for a part that has no such form."""
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{parts[1]!r} is neither an id nor a name")
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
