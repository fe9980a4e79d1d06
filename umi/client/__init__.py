"""A client of the gateway's REST API, sync and async. It needs httpx: `pip install 'umi-agent[client]'`.

    from umi.client import Client

    with Client("http://localhost:8000") as client:          # the key: an argument, or UMI_API_KEY
        run = client.queries.ask("Is 2027 a prime number?")
        for event in client.queries.stream("How far is Tokyo from Madrid?"):
            print(event.type, event.data)

`AsyncClient` has the same methods, to be awaited and iterated over with `async for`. docs/clients.md says what is
repeated and what is resumed.

    requests.py   every endpoint, as a description of a request     flows.py      repeating and resuming, without I/O
    sync.py       Client: takes a flow's steps over httpx           results.py    what is answered
    aio.py        AsyncClient, the same                             events.py     what happens in a run
    errors.py     the errors, in one tree
"""

try:
    import httpx as _httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("umi.client needs httpx: pip install 'umi-agent[client]'", name="httpx") from error

from umi.client.aio import AsyncClient, AsyncStream
from umi.client.errors import (
    BadRequest,
    ClientError,
    Conflict,
    Forbidden,
    NotConnected,
    NotFound,
    NotUnderstood,
    Refused,
    RunFailed,
    TooMany,
    Unauthorized,
    Unavailable,
)
from umi.client.events import AnswerDelta, Event, PlanDelta
from umi.client.flows import Patience
from umi.client.results import (
    Model,
    RegisteredToolset,
    Run,
    RunSummary,
    Step,
    Tool,
    Toolset,
    ToolsetVersion,
    VersionContent,
)
from umi.client.sync import Client, Stream

del _httpx

__all__ = [
    "AnswerDelta",
    "AsyncClient",
    "AsyncStream",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "Forbidden",
    "Model",
    "NotConnected",
    "NotFound",
    "NotUnderstood",
    "Patience",
    "PlanDelta",
    "Refused",
    "RegisteredToolset",
    "Run",
    "RunFailed",
    "RunSummary",
    "Step",
    "Stream",
    "TooMany",
    "Tool",
    "Toolset",
    "ToolsetVersion",
    "Unauthorized",
    "Unavailable",
    "VersionContent",
]
