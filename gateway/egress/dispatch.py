"""Sending one tool call: request in, observation out. Whatever goes wrong is an observation, never an exception."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.egress.client import Egress, Limits, Outgoing
from gateway.egress.keys import Key, Keyring, Opened
from gateway.egress.permission import Permission
from gateway.egress.secrets import cut
from gateway.events import ToolOutcome
from gateway.transport import Answer
from umi.errors import BadInput, CallRejected, Forbidden, NoResponse, TimedOut, TooLarge
from umi.observation import observe
from umi.openapi import HttpRequest


@dataclass(frozen=True)
class Reply:
    """What the planner is told, and what the log keeps beside it."""

    observation: str
    outcome: ToolOutcome
    status: int | None = None
    seconds: float = 0.0


class Dispatcher:
    """The one place from which tools are called. Cancelling `send` drops the connection, which is how a run's deadline
    reaches a call in flight."""

    def __init__(self, egress: Egress, keyring: Keyring, limits: Limits) -> None:
        self._egress, self._keyring, self._limits = egress, keyring, limits

    async def send(self, request: HttpRequest, permission: Permission, keys: Sequence[Key] = ()) -> Reply:
        """Send `request` where `permission` lets it go, signed with `keys`, and observe what comes back.

        What the keys hold is in no observation, however the tool repeats it.
        """
        started = time.monotonic()
        try:
            opened = await self._keyring.open(keys, permission)
            reply = await self._attempt(request, permission, opened)
            if reply.status == 401 and self._keyring.forget_tokens(keys):
                opened = await self._keyring.open(keys, permission)
                reply = await self._attempt(request, permission, opened)
        except (BadInput, CallRejected) as error:
            return Reply(f"Not sent: {error}.", ToolOutcome.REJECTED, None, time.monotonic() - started)
        # Half a surrogate pair cannot be stored or shown.
        text = cut(reply.observation.encode("utf-8", "replace"), opened.secrets).decode()
        return Reply(text, reply.outcome, reply.status, time.monotonic() - started)

    async def _attempt(self, request: HttpRequest, permission: Permission, opened: Opened) -> Reply:
        try:
            outgoing = replace(_outgoing(request), credentials=opened.credentials)
            answer = await self._egress.send(outgoing, permission, self._limits)
        except ValueError:
            return Reply("Not sent: NaN and infinity are not valid JSON.", ToolOutcome.REJECTED)
        except NoResponse as error:
            return unanswered(error)
        # Before it is shortened, which could leave half of a secret.
        return _observed(replace(answer, body=cut(answer.body, opened.secrets)), self._limits.characters)


def _outgoing(request: HttpRequest) -> Outgoing:
    """Raises ValueError for a body that JSON cannot hold."""
    headers, content = request.headers, None if request.text_body is None else request.text_body.encode()
    if request.json_body is not None:
        headers = {"content-type": "application/json", **headers}
        content = json.dumps(request.json_body, allow_nan=False).encode()
    return Outgoing(request.method, request.url, headers, content)


def unanswered(error: NoResponse) -> Reply:
    """What the planner is told when there was no response."""
    match error:
        case TooLarge():
            text = f"Response larger than {_size(error.max_bytes)}; not shown."
            return Reply(text, ToolOutcome.TOO_LARGE, error.status)
        case Forbidden():
            outcome = ToolOutcome.REJECTED
        case TimedOut():
            outcome = ToolOutcome.TIMEOUT
        case _:
            outcome = ToolOutcome.UNREACHABLE
    return Reply(f"The tool {error}.", outcome)


def _observed(answer: Answer, characters: int) -> Reply:
    if 300 <= answer.status < 400:
        text = f"Error {answer.status}: redirects; only calls that change nothing are redirected."
        return Reply(text, ToolOutcome.ERROR, answer.status)
    try:
        text = observe(answer.status, answer.headers.get("content-type", ""), answer.body, characters)
    except RecursionError:
        text = "The response is nested too deeply; not shown."
    return Reply(text, ToolOutcome.ERROR if answer.status >= 400 else ToolOutcome.OK, answer.status)


def _size(count: int) -> str:
    return f"{count / 1_000_000:g} MB" if count >= 100_000 else f"{count} bytes"
