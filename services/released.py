"""Weights that follow their role's release while requests go on."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from services.engine import Engine
from services.role import RoleBehaviour
from services.shadow import ShadowTurns
from services.turn import RoleTurns
from umi.errors import BadCheckpoint, BadInput, RoleOutputInvalid, UmiError
from umi.manifest import Checkpoint
from umi.registry import Registry, Stamp
from umi.release import Release
from umi.trajectory import Trajectory
from umi.trial import Tally
from umi.wire import Difference, Replica, RoleReply

_log = logging.getLogger("umi.services")
_LOOK_EVERY = 0.2
"""Seconds between two looks at the release file."""
_TRY_AGAIN = 5.0
"""Seconds until a release that could not be taken over is tried again: its files may still be on their way."""


@dataclass
class _Held:
    """A version in memory: how many requests use it now, and when the last one began."""

    turns: RoleTurns
    users: int = 0
    used_at: float = 0.0
    tally: Tally = field(default_factory=Tally)

    def count(self, seconds: float, failed: bool) -> None:
        self.tally = self.tally.plus(Tally(turns=1, failed=int(failed), seconds=seconds))


class ReleasedWeights:
    """The versions that the role's release names; a new release is taken over while requests go on.

    A version is verified, loaded and tried before any run gets it. If that fails, what was served is served on, and
    `replica` says why. A run keeps the version it began with, also on a replica that has to load it again for that.
    """

    def __init__(
        self,
        behaviour: RoleBehaviour,
        engine: Engine,
        registry: Registry,
        retire_seconds: float = 30.0,
        on_retired: Callable[[str], None] = lambda version: None,
    ) -> None:
        self._behaviour, self._engine, self._registry = behaviour, engine, registry
        self._retire_seconds, self._on_retired = retire_seconds, on_retired
        self._held: dict[str, _Held] = {}
        self._release: Release | None = None
        self._fallback: str | None = None
        self._problem: str | None = None
        self._seen: Stamp | None = None
        self._tried_at = 0.0
        self._swaps, self._swap_seconds = 0, None
        self._shadow: ShadowTurns | None = None
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Wait for a release, then load its stable version, or the newest one before it that is whole."""
        while (release := self._read()) is None:
            await asyncio.sleep(_LOOK_EVERY)
        candidates = dict.fromkeys((release.stable, *(state.stable for state in reversed(release.history))))
        for number, version in enumerate(candidates):
            try:
                checkpoint = self._registry.open(self._behaviour.role, version)
                await self._engine.load(checkpoint)
                await self._hold(checkpoint)
            except BadCheckpoint as error:
                self._problem = self._problem or str(error)
                if number + 1 == len(candidates):
                    raise
                _log.error("%s cannot be served: %s", version, error)
            else:
                self._fallback = version
                break
        await self._take_over()

    async def follow(self) -> None:
        """Take over every new release, and let go of versions that nothing uses any more."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            changed = self._registry.stamp(self._behaviour.role) != self._seen
            if changed or (self._problem and time.monotonic() - self._tried_at > _TRY_AGAIN):
                await self._take_over()
            await self._retire()

    @asynccontextmanager
    async def turns(self, run_id: str, pinned: str | None) -> AsyncGenerator[RoleTurns]:
        """The version that the run is pinned to if it can be had, else the one that the release gives it."""
        held = await self._pinned(pinned) if pinned else None
        if held is None:
            held = self._held[self._chosen(run_id)]
        held.users += 1
        held.used_at = started = time.monotonic()
        try:
            yield held.turns
        except RoleOutputInvalid:
            held.count(time.monotonic() - started, failed=True)
            raise
        else:
            held.count(time.monotonic() - started, failed=False)
        finally:
            held.users -= 1

    def answered(self, run_id: str, trajectory: Trajectory, reply: RoleReply, is_idle: bool) -> None:
        """Let the shadow take this turn again, if it follows the run."""
        if self._shadow is not None and self._release is not None and self._release.is_shadowed(run_id):
            self._shadow.follow(run_id, trajectory, reply, is_idle)

    @property
    def differences(self) -> Sequence[Difference]:
        """The newest turns on which the shadow decided otherwise."""
        return tuple(self._shadow.differences) if self._shadow is not None else ()

    def replica(self) -> Replica:
        """What is served now, and why that is not what the release says."""
        release = self._release
        return Replica(
            role=self._behaviour.role,
            generation=release.generation if release else None,
            stable=release.stable if release else self._fallback,
            canary=release.canary.version if release and release.canary else None,
            resident=tuple(self._held),
            problem=self._problem,
            swaps=self._swaps,
            swap_seconds=self._swap_seconds,
            shadow=release.shadow.version if release and release.shadow else None,
            tallies={version: held.tally for version, held in self._held.items()},
            agreement=self._shadow.agreement if self._shadow else None,
        )

    def _chosen(self, run_id: str) -> str:
        if self._release is not None:
            return self._release.version_for(run_id)
        assert self._fallback is not None
        return self._fallback

    async def _pinned(self, version: str) -> _Held | None:
        if version not in self._held and self._is_known(version):
            with suppress(BadInput):
                async with self._changing:
                    await self._load(version)
        return self._held.get(version)

    def _is_known(self, version: str) -> bool:
        """Whether a run can have begun with it; nothing else is loaded because a request says so."""
        release = self._release
        return release is not None and any(version in state.versions for state in release.history)

    def _read(self) -> Release | None:
        self._seen, self._tried_at = self._registry.stamp(self._behaviour.role), time.monotonic()
        try:
            release = self._registry.release(self._behaviour.role)
        except BadInput as error:
            self._problem = str(error)
            return None
        if release is None:
            self._problem = f"no release yet: umi weights release {self._behaviour.role} VERSION"
        return release

    async def _take_over(self) -> None:
        """Serve what the release file says; if that cannot be, say why and serve on."""
        started = time.monotonic()
        release = self._read()
        if release is None or (self._release and release.generation == self._release.generation and not self._problem):
            return
        try:
            async with self._changing:
                for version in release.versions:
                    await self._load(version)
        except BadInput as error:
            self._problem = f"generation {release.generation} is refused: {error}"
            _log.error("%s: %s", self._behaviour.role, self._problem)
            return
        self._problem = None
        if self._release and release.generation == self._release.generation:
            return
        self._release = release
        await self._follow_shadow(release)
        self._swaps, self._swap_seconds = self._swaps + 1, time.monotonic() - started
        _log.info("%s: generation %d serves %s", release.role, release.generation, ", ".join(release.versions))

    async def _follow_shadow(self, release: Release) -> None:
        wanted = release.shadow.version if release.shadow else None
        if self._shadow is not None and self._shadow.agreement.version == wanted:
            return
        if self._shadow is not None:
            await self._shadow.stop()
        self._shadow = ShadowTurns(self._held[wanted].turns) if wanted is not None else None

    async def _load(self, version: str) -> None:
        if version in self._held:
            return
        checkpoint = await asyncio.to_thread(self._registry.open, self._behaviour.role, version)
        await self._engine.add(checkpoint)
        await self._hold(checkpoint)

    async def _hold(self, checkpoint: Checkpoint) -> None:
        """Try a version that the engine has loaded; it is in use from here on, or unloaded again."""
        turns, version = RoleTurns(self._behaviour, self._engine, checkpoint), checkpoint.manifest.version
        try:
            await turns.smoke()
        except RoleOutputInvalid as error:
            await self._engine.remove(version)
            raise BadCheckpoint(f"{version} fails its trial: {error}") from error
        except UmiError:
            await self._engine.remove(version)
            raise
        self._held[version] = _Held(turns, used_at=time.monotonic())

    async def _retire(self) -> None:
        if self._release is None:
            return
        now = time.monotonic()
        for version, held in list(self._held.items()):
            idle = not held.users and now - held.used_at > self._retire_seconds
            if idle and version not in self._release.versions:
                async with self._changing:
                    del self._held[version]
                    await self._engine.remove(version)
                self._on_retired(version)
