"""The client of the three role services."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx
from pydantic import ValidationError

from gateway.metrics import Metrics
from gateway.replicas import Replicas, addresses
from gateway.transport import SEND_ERRORS, is_connect_failure
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
from umi.wire import ROLE_PATHS, CallReply, PlanReply, RoleReply, RoleRequest, SummaryReply

Reply = TypeVar("Reply", bound=RoleReply)
_PAUSE = 0.3
_NOT_SOON = {"not-ready", "engine-failed"}  # loading takes a minute: better tell the user than wait


class Roles:
    """Asks the roles. Every method may be cancelled, which drops the connection and so the generation.

    A role has no side effects: what one replica cannot answer, because it is down, loading or full, another is asked.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        urls: Mapping[Role, str],
        metrics: Metrics,
        tries: int = 2,
        token: str | None = None,
        look: Callable[[str], list[str]] = addresses,
    ) -> None:
        self._client, self._metrics, self._tries = client, metrics, tries
        self._replicas = {role: Replicas(url, look) for role, url in urls.items()}
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})

    async def plan(self, run_id: str, trajectory: Trajectory, deadline: float, version: str | None = None) -> PlanReply:
        """The planner's turn. `deadline` is a time of the event loop's clock, `version` the weights it is to use.

        Raises RoleUnavailable, RoleOverloaded (it asks to wait beyond the deadline), RoleOutputInvalid or
        ContextOverflow.
        """
        return await self._ask(Role.PLANNER, PlanReply, run_id, trajectory, deadline, version)

    async def call(self, run_id: str, trajectory: Trajectory, deadline: float, version: str | None = None) -> CallReply:
        """The caller's turn; raises as `plan` does."""
        return await self._ask(Role.CALLER, CallReply, run_id, trajectory, deadline, version)

    async def summarize(self, run_id: str, trajectory: Trajectory, deadline: float) -> SummaryReply:
        """The summarizer's turn; raises as `plan` does."""
        return await self._ask(Role.SUMMARIZER, SummaryReply, run_id, trajectory, deadline)

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
        return None if response.status_code == 200 else f"answers {response.status_code}: {_detail(response)}"

    async def _ask(
        self,
        role: Role,
        kind: type[Reply],
        run_id: str,
        trajectory: Trajectory,
        deadline: float,
        version: str | None = None,
    ) -> Reply:
        body = RoleRequest(run_id=run_id, trajectory=trajectory, version=version).model_dump_json()
        clock, replicas = asyncio.get_running_loop().time, self._replicas[role]
        failures = 0
        while True:
            started, replica = clock(), await replicas.any(run_id)
            try:
                with self._metrics.role(role):
                    return kind.model_validate_json((await self._post(role, replica, body)).content)
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
            except RoleUnavailable as error:
                replicas.rest(replica)
                if await replicas.awake(run_id) is not None:
                    continue
                failures += 1
                if failures >= self._tries or not isinstance(error, _Refused):
                    raise
                await asyncio.sleep(max(0.0, _PAUSE - (clock() - started)))

    async def _post(self, role: Role, replica: str, body: str) -> httpx.Response:
        try:
            response = await self._client.post(replica + ROLE_PATHS[role], content=body, headers=self._headers)
        except SEND_ERRORS as error:
            reason = str(error) or type(error).__name__
            if is_connect_failure(error):
                raise _Refused(role, f"not reachable at {replica} ({reason})") from error
            raise RoleUnavailable(role, f"the connection broke: {reason}") from error
        if response.status_code == 200:
            return response
        raise _error(role, response)


class _Refused(RoleUnavailable):
    """No connection, or one that closed before the answer: worth a second try even where there is no other replica."""


def _error(role: Role, response: httpx.Response) -> UmiError:
    """What a role's error response means, by status and the problem's `type` (services/app.py)."""
    detail, status = _detail(response).removeprefix(f"{role}: "), response.status_code
    problem_type = _problem(response).get("type", "")
    if status in {429, 503}:
        after = response.headers.get("retry-after", "")
        if after.isdigit() and problem_type not in _NOT_SOON:
            return RoleOverloaded(role, detail, max(0.1, float(after)))
        return RoleUnavailable(role, detail)
    if "overflow" in problem_type or status == 413:
        return ContextOverflow(f"{role}: {detail}", "query")
    if "output" in problem_type:
        return RoleOutputInvalid(role, detail)
    return RoleFailure(role, f"answered {status}: {detail}")


def _problem(response: httpx.Response) -> dict[str, str]:
    try:
        data = response.json()
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]


def _detail(response: httpx.Response) -> str:
    problem = _problem(response)
    return (problem.get("detail") or problem.get("title") or response.text)[:500] or response.reason_phrase
