"""The images: where their bases come from, what they weigh, and what is installed in them."""

import subprocess
from pathlib import Path

from benchmarks.compose.engine import ROOT, Compose, run
from benchmarks.swap.table import Part

PYTHON, POSTGRES = "python:3.11.14-slim-bookworm", "postgres:17.6-bookworm"
_STAND_INS = ROOT / "deploy" / "stand-ins"
_LOCKS = {"gateway": "gateway", "role": "role", "tools": "tools", "embedded": "embedded"}
_MOST_MB = 300
_LIST = """
from importlib.metadata import distributions
for one in distributions():
    print(one.name.lower().replace("_", "-").replace(".", "-") + "==" + one.version)
"""


def bases() -> dict[str, str]:
    """The settings of docker-compose.yml that say what to build on: nothing, where the pinned images can be had.

    Where no registry answers, stand-ins are made of Debian's packages, under names of their own.
    """
    found: dict[str, str] = {}
    if not _has(PYTHON):
        tag = "umi-stand-in/python:3.11-bookworm"
        print(f"{PYTHON} cannot be pulled: {tag}, made of Debian bookworm, stands in for it", flush=True)
        run("bash", str(_STAND_INS / "python.sh"), tag, seconds=900)
        found |= {"UMI_PYTHON_IMAGE": tag, "UMI_BUILDER_IMAGE": f"{tag}-builder"}
    if not _has(POSTGRES):
        tag = "umi-stand-in/postgres:15"
        print(f"{POSTGRES} cannot be pulled: {tag}, Debian's PostgreSQL 15, stands in for it", flush=True)
        base = found.get("UMI_PYTHON_IMAGE", PYTHON)
        run(
            "docker", "build", "-q", "-t", tag, "--build-arg", f"PYTHON={base}", str(_STAND_INS / "postgres"),
            env={"DOCKER_BUILDKIT": "0"}, seconds=900,
        )  # fmt: skip
        found["UMI_POSTGRES_IMAGE"] = tag
    return found


def check(compose: Compose) -> Part:
    """Sizes, and that every installed package is the one that a lock or the base image pins."""
    part = Part("images")
    for image, lock in _LOCKS.items():
        name = f"umi/{image}:0.1.0"
        size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", name)) / 1e6
        wanted = (f"under {_MOST_MB}", size < _MOST_MB) if image == "gateway" else ("", True)
        part.add(f"{name}, MB", f"{size:.0f}", *wanted)
        pinned = set((ROOT / "deploy" / f"{lock}.lock").read_text().split())
        installed = set(run("docker", "run", "--rm", "--network=none", name, "python", "-c", _LIST).split())
        if image == "gateway":
            part.none(
                "torch or vllm in the gateway's image",
                [one for one in installed if one.startswith(("torch==", "vllm"))],
            )
        unpinned = sorted(one for one in installed - pinned if not one.startswith("umi-agent=="))
        part.none(f"Python packages of {name} that are not as pinned (of {len(installed)})", unpinned)
        part.none(f"Debian packages of {name} beyond its base that are not pinned", _debian(compose, name))
    return part


def _debian(compose: Compose, name: str) -> list[str]:
    """Debian packages that neither the base image brings nor the compose file names with a version."""
    query = ("docker", "run", "--rm", "--network=none", "--entrypoint=dpkg-query")
    form = ("-W", "-f", "${Package}=${Version}\n")
    base = compose.env.get("UMI_PYTHON_IMAGE", PYTHON)
    more = set(run(*query, name, *form).split()) - set(run(*query, base, *form).split())
    text = Path(ROOT / "docker-compose.yml").read_text()
    return sorted(one for one in more if one not in text)


def _has(image: str) -> bool:
    for command in (("docker", "image", "inspect", image), ("docker", "pull", "-q", image)):
        if subprocess.run(command, capture_output=True, timeout=900).returncode == 0:
            return True
    return False
