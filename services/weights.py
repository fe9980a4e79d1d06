"""The weights that a replica serves: one checkpoint for good, or those that its role releases (`services.released`)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from services.engine import Engine
from services.role import RoleBehaviour
from services.turn import RoleTurns
from umi.manifest import Checkpoint
from umi.wire import Difference, Heard, Replica, RoleReply, RoleRequest


class Weights(Protocol):
    """Which version a run gets."""

    async def start(self) -> None:
        """Returns when something can be served. Raises UmiError when nothing ever can."""
        ...

    async def follow(self) -> None:
        """Goes on until it is cancelled. Raises EngineFailure when the engine is gone."""
        ...

    async def take(self, asked: RoleRequest, retried: Callable[[], None], heard: Heard | None = None) -> RoleReply:
        """The turn, by the run's version; `retried` is told of a text that was thrown away, `heard` of what is written.

        Raises as RoleTurns does.
        """
        ...

    def answered(self, asked: RoleRequest, reply: RoleReply, is_idle: bool) -> None:
        """Told of every answer, after it; `is_idle` while nothing else is waiting or running."""
        ...

    @property
    def differences(self) -> Sequence[Difference]:
        """The newest turns on which a shadow decided otherwise."""
        ...

    def replica(self) -> Replica:
        """What is served now."""
        ...


class FixedWeights:
    """One checkpoint, served to every run. Raises BadCheckpoint when it is not for the role."""

    def __init__(self, behaviour: RoleBehaviour, engine: Engine, checkpoint: Checkpoint) -> None:
        checkpoint.manifest.serves(behaviour.role)
        self._engine, self._checkpoint = engine, checkpoint
        self._turns = RoleTurns(behaviour, engine, checkpoint)

    async def start(self) -> None:
        """Load it and try it."""
        await self._engine.load(self._checkpoint)
        await self._turns.warm_up()
        await self._turns.smoke()

    async def follow(self) -> None:
        """There is nothing to follow."""

    async def take(self, asked: RoleRequest, retried: Callable[[], None], heard: Heard | None = None) -> RoleReply:
        """Always by the same version."""
        return await self._turns.take(asked.trajectory, retried, heard)

    def answered(self, asked: RoleRequest, reply: RoleReply, is_idle: bool) -> None:
        """Nobody else is to take the turn."""

    @property
    def differences(self) -> Sequence[Difference]:
        """There is no shadow."""
        return ()

    def replica(self) -> Replica:
        """The one version, and no generation."""
        version = self._checkpoint.manifest.version
        return Replica(role=self._turns.role, stable=version, resident=(version,))
