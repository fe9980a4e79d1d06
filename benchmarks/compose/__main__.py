"""docker-compose.yml, really run: images built, the cpu setup brought up, asked, scaled, swapped, killed, taken down.

Needs about 14 GiB of free memory, and a Docker engine: deploy/engine.sh starts one where root may. Project, volumes and
port are its own, the secrets those in secrets/. Prints a table; exits with 1 when something is not as wanted.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.compose import drills, images
from benchmarks.compose.engine import ROOT, Broken, Compose, until
from benchmarks.swap.table import Part, text

_NO_ENGINE = 3


def main() -> int:
    """Everything, in order; the first thing that is broken ends it."""
    started, parts = time.monotonic(), list[Part]()
    engine = subprocess.run([str(ROOT / "deploy" / "engine.sh")], check=False)
    if engine.returncode == _NO_ENGINE:
        print("SKIPPED: docker-compose.yml WAS NOT RUN, since there is no Docker engine (the reason stands above)")
        return 0
    engine.check_returncode()
    subprocess.run([sys.executable, str(ROOT / "deploy" / "new_secrets.py")], check=True)
    port = _free_port()
    settings = {"UMI_PUBLISH": f"127.0.0.1:{port}", "UMI_KV_CACHE_MIB": "256", "UMI_MAX_NUM_SEQS": "8"}
    settings |= {"UMI_ROLE_CPUS": str(os.cpu_count() or 1), "UMI_ROLE_MEMORY": "4g"}
    compose = Compose({**settings, **images.bases()})
    agent = drills.Agent(f"http://127.0.0.1:{port}", (ROOT / "secrets" / "umi_first_key").read_text())
    steps: list[Callable[[], Part]] = [
        lambda: _built(compose),
        lambda: images.check(compose),
        lambda: _up(compose, agent),
        lambda: drills.asked(agent),
        lambda: drills.closed(compose),
        lambda: drills.scaled(compose, agent),
        lambda: drills.swapped(compose, agent),
        lambda: drills.planner_killed(compose, agent),
        lambda: drills.gateway_killed(compose, agent),
        lambda: drills.database_restarted(compose, agent),
        lambda: drills.stopped(compose),
    ]
    broken: str | None = None
    compose("down", "-v", "--remove-orphans")
    try:
        for step in steps:
            parts.append(step())
            print(f"[{(time.monotonic() - started) / 60:5.1f} min] {parts[-1].title}", flush=True)
    except Broken as error:
        broken = f"{error}\n{compose.logs()}"
    finally:
        compose("down", "-v", "--remove-orphans")
    print(f"\n{text(parts)}\n{(time.monotonic() - started) / 60:.0f} minutes")
    if broken is not None:
        print(broken, file=sys.stderr)
    return 0 if broken is None and all(part.is_met for part in parts) else 1


def _built(compose: Compose) -> Part:
    part, started = Part(f"{' '.join(compose.program)} build"), time.monotonic()
    compose("build", "embedded", "weights", "tools", "backbone", seconds=2400)
    part.add("time", f"{time.monotonic() - started:.0f} s")
    return part


def _up(compose: Compose, agent: drills.Agent) -> Part:
    part, started = Part("docker-compose up -d"), time.monotonic()
    compose("up", "-d", "--no-build", seconds=1800)
    part.add(
        "until containers are started, the backbone made, the weights released", f"{time.monotonic() - started:.0f} s"
    )
    until("all roles to be ready", agent.is_ready, 1200, 2)
    part.add("until all roles are ready", f"{time.monotonic() - started:.0f} s")
    until("the example tools to be registered", lambda: bool(agent.client.get("/v1/tools").json()), 120)
    return part


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
