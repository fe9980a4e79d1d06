"""Weights that follow their role's release while requests go on."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from services.engine import Engine, EngineFailure, Replaced
from services.held import Held
from services.role import RoleBehaviour
from services.shadow import ShadowTurns
from services.turn import RoleTurns
from umi.errors import BadCheckpoint, BadInput, NoRegistry, RoleOutputInvalid, UmiError
from umi.manifest import Checkpoint, Kind
from umi.registry import Registry, served_alone
from umi.release import Release
from umi.storage import Stamp
from umi.wire import Difference, Heard, Replica, RoleReply, RoleRequest

_log = logging.getLogger("umi.services")
_TRY_AGAIN, _TRY_AGAIN_AT_LAST = 5.0, 300.0
"""Seconds until a release whose files could not be read is tried again: they may still be on their way. It is waited
twice as long every time, since a version that lies elsewhere is fetched anew for it."""


class _Refused(BadCheckpoint):
    """Its files are whole, and yet it cannot be served: trying again would change nothing."""


class ReleasedWeights:
    """The versions that the role's release names; a new release is taken over while requests go on.

    A version is verified, loaded and tried before any run gets it. If that fails, what was served is served on, and
    `replica` says why. A run keeps the version it began with, also on a replica that has to load it again for that.

    Adapters are held beside each other. Full weights are alone, and replaced in place: turns wait while they are read,
    and what the new ones write is held back until they have passed their trial; otherwise it is written again by the
    old ones. No answer is the work of two versions, and none that of a version that is refused.
    """

    def __init__(
        self,
        behaviour: RoleBehaviour,
        engine: Engine,
        registry: Registry,
        look_seconds: float = 0.2,
        retire_seconds: float = 30.0,
        on_retired: Callable[[str], None] = lambda version: None,
    ) -> None:
        self._behaviour, self._engine, self._registry = behaviour, engine, registry
        self._look_seconds, self._retire_seconds, self._on_retired = look_seconds, retire_seconds, on_retired
        self._held: dict[str, Held] = {}
        self._release: Release | None = None
        self._fallback: str | None = None
        self._problem: str | None = None
        self._seen: Stamp | None = None
        self._tried_at, self._patience = 0.0, _TRY_AGAIN
        self._tidied: int | None = None
        """Generation for which copies of others were deleted from this machine."""
        self._refused: tuple[int, str] | None = None
        """Generation of a release that is not to be tried again, and why."""
        self._swaps, self._swap_seconds, self._pause_seconds = 0, None, None
        self._shadow: ShadowTurns | None = None
        self._changing = asyncio.Lock()
        self._writing = asyncio.Event()
        """Not set while full weights are replaced."""
        self._writing.set()

    async def start(self) -> None:
        """Wait for a release, then load its stable version, or the newest one before it that is whole."""
        while (release := await self._read()) is None:
            await asyncio.sleep(self._look_seconds)
        begun = release.stable
        candidates = dict.fromkeys((release.stable, *(state.stable for state in reversed(release.history))))
        for number, version in enumerate(candidates):
            try:
                await self._begin(version)
            except (BadCheckpoint, NoRegistry) as error:
                if number + 1 == len(candidates):
                    raise
                _log.error("%s cannot be served: %s", version, error)
                self._problem = self._problem or f"generation {release.generation} is refused: {error}"
                if isinstance(error, _Refused) and version == release.stable:
                    self._refused = (release.generation, self._problem)
            else:
                begun = version
                break
        await self._take_over()
        self._fallback = begun  # not told before it can be had

    async def _begin(self, version: str) -> None:
        checkpoint = await asyncio.to_thread(self._registry.open, self._behaviour.role, version)
        try:
            await self._engine.load(checkpoint)
            await RoleTurns(self._behaviour, self._engine, checkpoint).warm_up()
            await self._hold(checkpoint)
        except (BadInput, EngineFailure) as error:
            raise _Refused(str(error)) from error

    async def follow(self) -> None:
        """Take over every new release, and let go of versions that nothing uses any more."""
        while True:
            await asyncio.sleep(self._look_seconds)
            changed = await asyncio.to_thread(self._registry.stamp, self._behaviour.role) != self._seen
            if changed:
                self._patience = _TRY_AGAIN
            elif self._problem and time.monotonic() - self._tried_at > self._patience:
                self._patience = min(2 * self._patience, _TRY_AGAIN_AT_LAST)
                changed = True
            if changed:
                await self._take_over()
            await self._retire()

    async def take(self, asked: RoleRequest, retried: Callable[[], None], heard: Heard | None = None) -> RoleReply:
        """The turn, by the version that the run is pinned to if it can be had, else by the one the release gives it."""
        while True:
            await self._writing.wait()
            held = await self._pinned(asked.version) if asked.version else None
            if held is None:
                held = self._serving(asked.run_id)
            try:
                reply = await held.take(asked.trajectory, retried, heard)
            except Replaced:
                continue
            except RoleOutputInvalid:
                if await held.stays():
                    raise
            else:
                if await held.stays():
                    return reply

    def answered(self, asked: RoleRequest, reply: RoleReply, is_idle: bool) -> None:
        """Let the shadow take this turn again, if it follows the run."""
        if self._shadow is not None and self._release is not None and self._release.is_shadowed(asked.run_id):
            self._shadow.follow(asked.run_id, asked.trajectory, reply, is_idle)

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
            pause_seconds=self._pause_seconds,
            shadow=release.shadow.version if release and release.shadow else None,
            tallies={version: held.tally for version, held in self._held.items()},
            agreement=self._shadow.agreement if self._shadow else None,
        )

    def _serving(self, run_id: str) -> Held:
        if len(self._held) == 1:  # it may be ahead of the release: full weights on trial
            return next(iter(self._held.values()))
        chosen = self._release.version_for(run_id) if self._release else self._fallback
        assert chosen is not None
        return self._held[chosen]

    async def _pinned(self, version: str) -> Held | None:
        if version not in self._held and self._is_known(version):
            with suppress(BadInput):
                async with self._changing:
                    await self._load(version)
        return self._held.get(version)

    def _is_known(self, version: str) -> bool:
        """Whether a run can have begun with it; nothing else is loaded because a request says so.

        Full weights are not replaced for that: the run goes on with those that are there.
        """
        release = self._release
        if any(held.turns.checkpoint.manifest.kind is Kind.FULL for held in self._held.values()):
            return False
        return release is not None and any(version in state.versions for state in release.history)

    async def _read(self) -> Release | None:
        role = self._behaviour.role
        self._seen, self._tried_at = await asyncio.to_thread(self._registry.stamp, role), time.monotonic()
        try:
            release = await asyncio.to_thread(self._registry.release, role)
        except BadInput as error:
            self._problem = str(error)
            return None
        if release is None:
            self._problem = f"no release yet: umi weights release {self._behaviour.role} VERSION"
        return release

    async def _take_over(self) -> None:
        """Serve what the release file says; if that cannot be, say why and serve on."""
        started = time.monotonic()
        release = await self._read()
        if release is None:
            return
        if self._refused and release.generation == self._refused[0]:
            self._problem = self._refused[1]
            return
        if self._release and release.generation == self._release.generation and not self._problem:
            return
        try:
            async with self._changing:
                for version in release.versions:
                    await self._load(version, release)
        except BadInput as error:
            self._problem = f"generation {release.generation} is refused: {error}"
            self._refused = (release.generation, self._problem) if isinstance(error, _Refused) else None
            _log.error("%s: %s", self._behaviour.role, self._problem)
            return
        self._problem = None
        if self._release and release.generation == self._release.generation:
            return
        await self._follow_shadow(release)
        self._release = release
        self._swaps, self._swap_seconds = self._swaps + 1, time.monotonic() - started
        _log.info("%s: generation %d serves %s", release.role, release.generation, ", ".join(release.versions))

    async def _follow_shadow(self, release: Release) -> None:
        wanted = release.shadow.version if release.shadow else None
        if self._shadow is not None and self._shadow.agreement.version == wanted:
            return
        old, self._shadow = self._shadow, ShadowTurns(self._held[wanted].turns) if wanted is not None else None
        if old is not None:
            await old.stop()

    async def _load(self, version: str, release: Release | None = None) -> None:
        if version in self._held:
            return
        checkpoint = await asyncio.to_thread(self._registry.open, self._behaviour.role, version)
        try:
            if release is not None and checkpoint.manifest.kind is Kind.FULL:
                served_alone(checkpoint.manifest, release)
                await self._replace(checkpoint)
            else:
                async with self._engine.making_way():
                    await self._engine.add(checkpoint)
                    await self._hold(checkpoint)
        except BadInput as error:
            raise _Refused(str(error)) from error

    async def _hold(self, checkpoint: Checkpoint) -> None:
        """Try a version that the engine has loaded; it is in use from here on, or unloaded again."""
        held = Held(RoleTurns(self._behaviour, self._engine, checkpoint))
        try:
            await held.turns.smoke()
        except UmiError:
            await self._engine.remove(held.version)
            raise
        self._held[held.version] = held

    async def _replace(self, checkpoint: Checkpoint) -> None:
        """Serve full weights in place of those that are there, which come back when the new ones fail their trial."""
        before, held = next(iter(self._held.values())), Held(RoleTurns(self._behaviour, self._engine, checkpoint))
        with held.on_trial():
            await self._swap(held)
            try:
                await held.turns.smoke()
            except BadCheckpoint as error:
                try:
                    await self._swap(before)
                except BadCheckpoint as worse:
                    self._writing.clear()
                    raise EngineFailure(f"{error}, and {before.version} cannot be put back: {worse}") from worse
                raise
        self._on_retired(before.version)

    async def _swap(self, held: Held) -> None:
        """Turns that come meanwhile wait; for ever, when the engine has lost its weights: this process ends then."""
        started = time.monotonic()
        self._writing.clear()
        try:
            await self._engine.swap(held.turns.checkpoint)
        except BadCheckpoint:
            self._writing.set()
            raise
        self._held = {held.version: held}
        self._pause_seconds = time.monotonic() - started
        self._writing.set()

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
        if self._tidied != self._release.generation:
            self._tidied = self._release.generation
            await asyncio.to_thread(self._registry.forget_fetched, self._release)
