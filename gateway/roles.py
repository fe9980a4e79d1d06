"""The client of the three role services."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from http.client import responses
from typing import TypeVar

from pydantic import ValidationError

from gateway import tracing
from gateway.metrics import Metrics
from gateway.replicas import Replicas, addresses
from gateway.transport import SEND_ERRORS, Answer, RoleClient
from umi.errors import (
    ContextOverflow,
    RoleFailure,
    RoleOutputInvalid,
    RoleOverloaded,
    RoleUnavailable,
    UmiError,
)
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import ROLE_PATHS, CallReply, Heard, PlanReply, RoleReply, RoleRequest, SummaryReply

Reply = TypeVar("Reply", bound=RoleReply)
_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_OUTAGES = {"not-ready", "engine-failed"}
_SESSION = "x-session-id"
"""Holds the run's id, by which a balancer before a role's replicas can keep a run to one of them (deploy/ray)."""


class Roles:
    """Asks the roles. Every method may be cancelled, which drops the connection and so the generation.

    A role has no side effects: what one replica cannot answer, because it is down, loading or full, another is asked,
    or the same one again after a while.
    """

    def __init__(
        self,
        client: RoleClient,
        urls: Mapping[Role, str],
        metrics: Metrics,
        patience: float = 30.0,
        token: str | None = None,
        look: Callable[[str], list[str]] = addresses,
    ) -> None:
        """`patience`: for so many seconds, within the deadline, a role that is out of service is asked again."""
        self._client, self._metrics, self._patience = client, metrics, patience
        self._replicas = {role: Replicas(url, look) for role, url in urls.items()}
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})

    async def plan(
        self,
        run_id: str,
        trajectory: Trajectory,
        deadline: float,
        version: str | None = None,
        heard: Heard | None = None,
    ) -> PlanReply:
        """The planner's turn. `deadline` is a time of the event loop's clock, `version` the weights it is to use.

        `heard` is told of the rationale while it is written; when another replica has to be asked, from its beginning.
        Raises RoleUnavailable (out of service for longer than there is patience), RoleOverloaded (it asks to wait
        beyond the deadline), RoleOutputInvalid or ContextOverflow.
        """
        return await self._ask(Role.PLANNER, PlanReply, run_id, trajectory, deadline, version, heard)

    async def call(self, run_id: str, trajectory: Trajectory, deadline: float, version: str | None = None) -> CallReply:
        """The caller's turn; raises as `plan` does."""
        return await self._ask(Role.CALLER, CallReply, run_id, trajectory, deadline, version)

    async def summarize(
        self, run_id: str, trajectory: Trajectory, deadline: float, heard: Heard | None = None
    ) -> SummaryReply:
        """The summarizer's turn; `heard` is told of the answer, and it raises, as with `plan`."""
        return await self._ask(Role.SUMMARIZER, SummaryReply, run_id, trajectory, deadline, heard=heard)

    async def is_ready(self, role: Role) -> str | None:
        """None when a replica is ready, or why the role cannot be used now."""
        reasons = await asyncio.gather(*(self._unready(url) for url in await self._replicas[role].all()))
        return None if None in reasons else next(iter(reasons))

    async def _unready(self, url: str) -> str | None:
        try:
            async with asyncio.timeout(2.0):
                response = await self._client.get(url + "/readyz")
        except TimeoutError:
            return "no answer within 2 s"
        except SEND_ERRORS as error:
            return f"not reachable at {url} ({error})"
        return None if response.status == 200 else f"answers {response.status}: {_detail(response)}"

    async def _ask(
        self,
        role: Role,
        kind: type[Reply],
        run_id: str,
        trajectory: Trajectory,
        deadline: float,
        version: str | None = None,
        heard: Heard | None = None,
    ) -> Reply:
        body = RoleRequest(run_id=run_id, trajectory=trajectory, version=version).model_dump_json()
        clock, replicas = asyncio.get_running_loop().time, self._replicas[role]
        give_up, pause, heard = None, _PAUSE, self._timed(role, heard)
        while True:
            replica = await replicas.any(run_id)
            try:
                with self._metrics.role(role), tracing.role(role, version) as answered:
                    reply = kind.model_validate_json((await self._post(role, replica, run_id, body, heard)).body)
                    answered(reply)
                    self._metrics.answered(role, reply.usage)
                    return reply
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(str(part) for part in wrong["loc"])
                raise RoleOutputInvalid(role, f"answered something unexpected: {where}: {wrong['msg']}") from error
            except RoleOverloaded as error:
                replicas.rest(replica, error.retry_after)
                if await replicas.awake(run_id) is not None:
                    continue
                if clock() + error.retry_after >= deadline:
                    raise
                await asyncio.sleep(error.retry_after)
            except RoleUnavailable:
                replicas.rest(replica)
                if await replicas.awake(run_id) is not None:
                    continue
                give_up = give_up or min(clock() + self._patience, deadline - _PAUSE)
                if clock() + pause >= give_up:
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _timed(self, role: Role, heard: Heard | None) -> Heard | None:
        """Tells the metrics how long the first text was in coming."""
        if heard is None:
            return None
        started, is_first = time.monotonic(), True

        def told(text: str) -> None:
            nonlocal is_first
            if is_first:
                self._metrics.first_text(role, time.monotonic() - started)
            is_first = False
            heard(text)

        return told

    async def _post(self, role: Role, replica: str, run_id: str, body: str, heard: Heard | None) -> Answer:
        headers = {**self._headers, _SESSION: run_id, **tracing.headers()}
        try:
            response = await self._client.post(replica + ROLE_PATHS[role], body, headers, heard)
        except SEND_ERRORS as error:
            raise RoleUnavailable(role, f"not reachable at {replica} ({error or type(error).__name__})") from error
        if response.status == 200:
            return response
        raise _error(role, response)


def _error(role: Role, response: Answer) -> UmiError:
    """What a role's error response means, by status and the problem's `type` (services/app.py)."""
    detail, status = _detail(response).removeprefix(f"{role}: "), response.status
    problem_type = _problem(response).get("type", "")
    if status in {429, 503}:
        after = response.headers.get("retry-after", "")
        if after.isdigit() and problem_type not in _OUTAGES:
            return RoleOverloaded(role, detail, max(0.1, float(after)))
        return RoleUnavailable(role, detail)
    if "overflow" in problem_type or status == 413:
        return ContextOverflow(f"{role}: {detail}", "query")
    if "output" in problem_type:
        return RoleOutputInvalid(role, detail)
    if status >= 500 and not problem_type:  # a balancer's own words: the replica behind it broke off
        return RoleUnavailable(role, f"answered {status}: {detail}")
    return RoleFailure(role, f"answered {status}: {detail}")


def _problem(response: Answer) -> dict[str, str]:
    try:
        data = json.loads(response.body)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]


def _detail(response: Answer) -> str:
    problem, text = _problem(response), response.body.decode("utf-8", "replace")
    return (problem.get("detail") or problem.get("title") or text)[:500] or responses.get(response.status, "")
