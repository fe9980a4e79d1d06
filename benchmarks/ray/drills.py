"""What is done to the running cluster: asked, looked at, given new weights, updated, one node killed."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.compose.drills import Agent, failed
from benchmarks.compose.engine import ROOT, run, until
from benchmarks.ray.cluster import Cluster, Node
from benchmarks.ray.setting import PATIENCE
from benchmarks.swap.table import Part
from umi.roles import Role

_RUNS = 6
_READY_SECONDS = 1800.0
_OPEN = ("/healthz", "/readyz")


class Operator:
    """The `umi` command beside the cluster, with its registry, its roles' addresses and a key."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self.env = {"UMI_REGISTRY": str(folder / "registry"), "UMI_SETTINGS_DIRECTORY": str(folder / "secrets")}
        self.env |= {"UMI_GATEWAY": url, "UMI_API_KEY": self.key, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
        self.env |= {f"UMI_{role.upper()}_URL": f"{url}/{role}" for role in Role}

    @property
    def key(self) -> str:
        """The first API key."""
        return (self._folder / "secrets" / "umi_first_key").read_text()

    def __call__(self, *arguments: str, seconds: float = 300) -> str:
        """What a command prints. Raises Broken."""
        return run(sys.executable, "-m", "gateway.cli", *arguments, env=self.env, seconds=seconds)

    def status(self) -> str:
        """`umi weights status`, whatever it exits with."""
        command = [sys.executable, "-m", "gateway.cli", "weights", "status"]
        return subprocess.run(command, env={**os.environ, **self.env}, cwd=ROOT, capture_output=True, text=True).stdout


def deployed(cluster: Cluster, config: dict[str, Any], agent: Agent) -> Part:
    """`serve deploy`, until every application runs."""
    part, started = Part("serve deploy on two nodes"), time.monotonic()
    _deploy(cluster, config)
    until("Serve to run every application", cluster.is_running, _READY_SECONDS, 1)
    until("all roles to be ready", agent.is_ready, 120)
    part.add("until all roles are ready", f"{time.monotonic() - started:.0f} s")
    for name in ("planner", "caller", "summarizer", "gateway"):
        part.add(f"replicas of the {name}", ", ".join(sorted(_places(cluster, name))))
    return part


def closed(agent: Agent, url: str) -> Part:
    """What the proxies' port answers somebody without token and key."""
    part = Part("reachable without a token")
    paths = ("/v1/replica", "/v1/replicas", "/metrics", "/docs", "/openapi.json", "//v1/replica", "/planner/healthz")
    open_paths = [
        f"/{role}{path}"
        for role in Role
        for path in paths
        if agent.anybody.get(f"{url}/{role}{path}").status_code != 401
    ]
    part.none(f"paths of roles (of {3 * len(paths)} tried) that are not refused", open_paths)
    asked = [role for role in Role if agent.anybody.post(f"/{role}/v1/plan", json={}).status_code != 401]
    part.none("roles that take a turn without the token", [str(role) for role in asked])
    healthy = [path for role in Role for path in _OPEN if agent.anybody.get(f"/{role}{path}").status_code == 200]
    part.add("health checks that answer anybody", len(healthy), "6", len(healthy) == 6)
    return part


def swapped(agent: Agent, umi: Operator, checkpoint: Path, version: str) -> Part:
    """Other planner weights on both replicas, while runs go on."""
    part, runs = Part("a release of other planner weights"), agent.begin(2)
    umi("weights", "add", "planner", str(checkpoint), "--release")
    started = time.monotonic()
    until("both planners to serve it", lambda: _serving(umi, version) == 2, 600, 1)
    part.add("until all replicas serve it", f"{time.monotonic() - started:.1f} s (with the start of the command)")
    part.add("planners that serve it", _serving(umi, version), "2", _serving(umi, version) == 2)
    part.none("runs that failed meanwhile", failed(agent.finish(runs, PATIENCE)))
    after = agent.finish(agent.begin(1), PATIENCE)[0]
    part.add("a run that begins then is planned by", version, version, version in str(after))
    return part


def updated(cluster: Cluster, config: dict[str, Any], agent: Agent) -> Part:
    """Another setting of the planner, rolled out while runs go on."""
    part, started = Part("a rolling update of the planner (another setting)"), time.monotonic()
    before = {one["replica_id"] for one in cluster.replicas("planner")}
    planner = next(app for app in config["applications"] if app["name"] == "planner")
    planner["runtime_env"]["env_vars"]["UMI_MAX_QUEUE"] = "63"
    runs = agent.begin(_RUNS)
    _deploy(cluster, config)

    def is_done() -> bool:
        now = {one["replica_id"] for one in cluster.replicas("planner")}
        return cluster.is_running() and len(now) == 2 and not now & before

    until("both planners to be replaced", is_done, _READY_SECONDS, 1)
    part.add("until both replicas are new", f"{time.monotonic() - started:.0f} s")
    part.none(f"of {_RUNS} runs, those that failed", failed(agent.finish(runs, PATIENCE)))
    return part


def node_killed(cluster: Cluster, victim: Node, agent: Agent, umi: Operator) -> Part:
    """SIGKILL for every process of a node with a planner and a gateway, in the middle of runs."""
    part, runs = Part("one of two nodes killed (SIGKILL for all its processes)"), agent.begin(_RUNS)
    time.sleep(2)
    held = [name for name in ("planner", "gateway", "caller", "summarizer") if victim.name in _places(cluster, name)]
    part.add("what was on it", ", ".join(held), "planner, gateway", {"planner", "gateway"} <= set(held))
    killed = time.monotonic()
    victim.kill()
    cluster.forget(victim)
    until("the gateway to answer", agent.is_ready, 300, 0.2)
    part.add("until the gateway answered again", f"{time.monotonic() - killed:.1f} s")
    part.none(f"of {_RUNS} runs, those that failed", failed(agent.finish(runs, 2 * PATIENCE)))
    part.add("until the last of them had ended", f"{time.monotonic() - killed:.0f} s")
    until("two planners on the node that is left", lambda: _serving(umi, "") == 2, _READY_SECONDS, 2)
    until("Serve to run every application", cluster.is_running, _READY_SECONDS, 1)
    part.add("until there were two planners again", f"{time.monotonic() - killed:.0f} s")
    after = agent.finish(agent.begin(1), PATIENCE)
    part.none("of the runs that begin then, those that failed", failed(after))
    return part


def stopped(cluster: Cluster) -> Part:
    """All is taken down; nothing stays behind."""
    part, started = Part("the cluster is taken down"), time.monotonic()
    cluster.stop()
    part.add("time", f"{time.monotonic() - started:.0f} s")
    until("every process to end", lambda: not cluster.left(), 60, 0.5)
    part.none("processes left behind", [" ".join(one.cmdline())[:80] for one in cluster.left()])
    return part


def _deploy(cluster: Cluster, config: dict[str, Any]) -> None:
    file = cluster.folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    cluster.deploy(file)


def _places(cluster: Cluster, application: str) -> list[str]:
    """The node of each replica."""
    return [cluster.node_of(one["pid"]).name for one in cluster.replicas(application)]


def _serving(umi: Operator, version: str) -> int:
    lines = umi.status().splitlines()
    return sum(line.split()[:1] == ["planner"] and version in line and "serving" in line for line in lines)
