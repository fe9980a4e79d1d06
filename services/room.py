"""How much memory is left, so that what cannot fit is refused before the kernel ends the service for it."""

from pathlib import Path

from umi.errors import BadCheckpoint
from umi.manifest import Checkpoint

_MEMINFO, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def require(checkpoint: Checkpoint, available: int | None) -> None:
    """Raises BadCheckpoint when the files of a checkpoint are more than `available` bytes; None: nobody knows."""
    needed = sum((checkpoint.directory / name).stat().st_size for name in checkpoint.manifest.files)
    if available is not None and needed > available:
        raise BadCheckpoint(
            f"{checkpoint.manifest.version}: not enough memory: its files have {needed / 2**20:,.0f} MiB, "
            f"{available / 2**20:,.0f} MiB are left here"
        )


def available() -> int | None:
    """Bytes that this process can still take: of the machine, or of its control group if that has less."""
    found = [size for size in (_machine(), _group()) if size is not None]
    return min(found, default=None)


def _machine() -> int | None:
    return _numbers(_MEMINFO, ":").get("MemAvailable")


def _group() -> int | None:
    try:
        limit, used = ((_GROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    if not limit.isdigit():
        return None
    files = _numbers(_GROUP / "memory.stat", " ")
    return int(limit) - int(used) + files.get("active_file", 0) + files.get("inactive_file", 0)


def _numbers(path: Path, separator: str) -> dict[str, int]:
    """Lines such as `MemAvailable:   12345 kB` and `inactive_file 12345`, in bytes."""
    found: dict[str, int] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, rest = line.partition(separator)
        size, _, unit = rest.strip().partition(" ")
        if size.isdigit():
            found[name] = int(size) * (1024 if unit == "kB" else 1)
    return found
