"""deploy/ray, really run on a local cluster of two Ray nodes: deployed, asked, swapped, updated, a node of it killed.

With the embedded backbone and four engines it needs about 14 GiB of free memory; --scripted takes roles that follow a
script instead, and a minute. The runs' database is PostgreSQL where one is installed. Prints a table; exits with 1 when
something is not as wanted.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.compose.drills import Agent, asked
from benchmarks.compose.engine import ROOT, Broken, until
from benchmarks.ray import drills
from benchmarks.ray.cluster import Cluster
from benchmarks.ray.setting import settings
from benchmarks.swap.table import Part, text
from deploy import new_secrets
from tests import postgres
from tests.checkpoints import bare
from tests.fakes import free_port
from umi.manifest import Checkpoint
from umi.roles import Role

_CPUS = 16
"""Of each node, as Ray counts them: so many replicas as are wanted fit on one."""


def main() -> int:
    """Everything, in order; the first thing that is broken ends it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray", description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="roles that follow a script, in place of vLLM")
    is_scripted = parser.parse_args().scripted
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever was started is ended then as well
    started, parts, broken = time.monotonic(), list[Part](), None
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster({}))
        folder, port, tools_port = cluster.folder, free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        new_secrets.make(folder / "secrets")
        umi = drills.Operator(url, folder)
        agent = Agent(url, umi.key)
        checkpoints = _checkpoints(folder / "checkpoints", is_scripted)
        config = settings(folder, port, _database(stack, folder), is_scripted)
        try:
            for role in Role:
                umi("weights", "add", role, str(checkpoints / role), "--release")
            cluster.node("first", _CPUS, "umi=cpu,node=first")
            second = cluster.node("second", _CPUS, "umi=cpu,node=second")
            _say(started, "two Ray nodes")
            stack.enter_context(_tools(tools_port))
            other = checkpoints / "global"
            steps: list[Callable[[], Part]] = [
                lambda: drills.deployed(cluster, config, agent),
                lambda: _registered(umi, agent, tools_port),
                lambda: drills.closed(agent, url),
                lambda: drills.swapped(agent, umi, other, Checkpoint.open(other).manifest.version),
                lambda: drills.updated(cluster, config, agent),
                lambda: drills.node_killed(cluster, second, agent, umi),
                lambda: drills.stopped(cluster),
            ]
            for step in steps:
                parts.append(step())
                _say(started, parts[-1].title)
        except Broken as error:
            broken = f"{error}\n{cluster.logs()}"
    print(f"\n{text(parts)}\n{(time.monotonic() - started) / 60:.0f} minutes")
    if broken is not None:
        print(broken, file=sys.stderr)
    return 0 if broken is None and all(part.is_met for part in parts) else 1


def _registered(umi: drills.Operator, agent: Agent, tools_port: int) -> Part:
    until("the example tools to be registered", lambda: _registers(umi, tools_port), 120, 1)
    return asked(agent)


def _registers(umi: drills.Operator, tools_port: int) -> bool:
    try:
        umi("tools", "examples", f"http://127.0.0.1:{tools_port}")
    except Broken:
        return False
    return True


@contextlib.contextmanager
def _tools(port: int):
    """The example tools."""
    process = subprocess.Popen([sys.executable, "-m", "examples.tools", "--port", str(port)], cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _database(stack: contextlib.ExitStack, folder: Path) -> str:
    found = postgres.binaries()
    if found is None:
        print("no PostgreSQL server here (apt-get install postgresql): the gateways share an SQLite file", flush=True)
        return f"sqlite:///{folder}/runs.db"
    return stack.enter_context(postgres.running(found)).database()


def _checkpoints(folder: Path, is_scripted: bool) -> Path:
    """The shipped checkpoints, of planner, caller, summarizer and global; for a script, empty ones."""
    if not is_scripted:
        return ROOT / "checkpoints"
    for name in (*Role, "global"):
        bare(folder / name, version=f"{name}-scripted")
    return folder


def _say(started: float, what: str) -> None:
    print(f"[{(time.monotonic() - started) / 60:5.1f} min] {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
