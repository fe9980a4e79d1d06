"""The client of the three role services."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import httpx
from pydantic import ValidationError

from gateway.metrics import Metrics
from gateway.transport import SEND_ERRORS, RoleClient, is_connect_failure
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
    """Asks the roles. Every method may be cancelled, which drops the connection and so the generation."""

    def __init__(self, client: RoleClient, urls: Mapping[Role, str], metrics: Metrics, tries: int = 2) -> None:
        self._client, self._urls, self._metrics, self._tries = client, urls, metrics, tries

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
        """None, or why the role cannot be used now."""
        try:
            async with asyncio.timeout(2.0):
                response = await self._client.get(self._urls[role] + "/readyz")
        except TimeoutError:
            return "no answer within 2 s"
        except SEND_ERRORS as error:
            return f"not reachable at {self._urls[role]} ({error})"
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
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            started = clock()
            try:
                with self._metrics.role(role):
                    return kind.model_validate_json((await self._post(role, body)).content)
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_input=False)[0]
                where = ".".join(str(part) for part in wrong["loc"])
                raise RoleOutputInvalid(role, f"answered something unexpected: {where}: {wrong['msg']}") from error
            except RoleOverloaded as error:
                if clock() + error.retry_after >= deadline:
                    raise
                await asyncio.sleep(error.retry_after)
            except _Refused as error:
                failures += 1
                if failures >= self._tries:
                    reason = f"not reachable at {self._urls[role]} ({error})"
                    raise RoleUnavailable(role, reason) from error.__cause__
                await asyncio.sleep(max(0.0, _PAUSE - (clock() - started)))

    async def _post(self, role: Role, body: str) -> httpx.Response:
        headers = {"content-type": "application/json"}
        try:
            response = await self._client.post(self._urls[role] + ROLE_PATHS[role], content=body, headers=headers)
        except SEND_ERRORS as error:
            if is_connect_failure(error):  # asking again is safe: a role has no side effects
                raise _Refused(str(error) or type(error).__name__) from error
            raise RoleUnavailable(role, f"the connection broke: {error or type(error).__name__}") from error
        if response.status_code == 200:
            return response
        raise _error(role, response)


class _Refused(Exception):
    """No connection, or one that closed before the answer."""


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
