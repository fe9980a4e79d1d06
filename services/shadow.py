"""A shadow: a version that takes the turns of others again, when there is room, and is compared."""

import asyncio
import logging
from collections import deque

from services.turn import RoleTurns
from umi.errors import UmiError
from umi.trajectory import JsonObject, Trajectory
from umi.wire import Agreement, CallReply, Difference, PlanReply, RoleReply

_log = logging.getLogger("umi.services")
_KEPT = 20
"""Differences that are kept to be looked at."""


class ShadowTurns:
    """The turns of one shadow. At most one is taken at a time: whoever is answered goes first."""

    def __init__(self, turns: RoleTurns) -> None:
        self._turns = turns
        self._task: asyncio.Task[None] | None = None
        self._counted = Agreement(version=turns.version)
        self.differences: deque[Difference] = deque(maxlen=_KEPT)

    @property
    def agreement(self) -> Agreement:
        """The counts so far."""
        return self._counted

    @property
    def is_busy(self) -> bool:
        """Whether it is taking a turn now."""
        return self._task is not None and not self._task.done()

    def follow(self, run_id: str, trajectory: Trajectory, served: RoleReply, is_idle: bool) -> None:
        """Take the turn again that `served` answered, unless the replica has other work. Returns at once."""
        if self.is_busy or not is_idle:
            self._count(skipped=1)
            return
        self._task = asyncio.create_task(self._compare(run_id, trajectory, served), name="shadow")

    async def stop(self) -> None:
        """Give up the turn that is being taken."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _compare(self, run_id: str, trajectory: Trajectory, served: RoleReply) -> None:
        try:
            reply = await self._turns.take(trajectory, lambda: None)
        except UmiError as error:
            _log.info("the shadow %s failed a turn: %s", self._turns.version, error)
            self._count(turns=1, failed=1)
            return
        first, second = decision(served), decision(reply)
        self._count(turns=1, same=int(first == second), same_tool=int(_tool(first) == _tool(second)))
        if first != second:
            self.differences.append(Difference(run_id=run_id, trajectory=trajectory, served=first, shadow=second))

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self._counted, name) + number for name, number in more.items()}
        self._counted = self._counted.model_copy(update=sums)


def decision(reply: RoleReply) -> JsonObject:
    """What of a reply counts when two are compared: a rationale may be worded in many ways."""
    match reply:
        case PlanReply():
            return {"turn": reply.plan.turn.value}
        case CallReply():
            return {"tool": reply.call.tool, "arguments": reply.call.arguments}
        case _:
            return reply.model_dump(mode="json", exclude={"version", "usage"})


def _tool(found: JsonObject) -> object:
    return found.get("tool", found)
