"""What is done to the running project: asked, looked at from outside, scaled, given new weights, killed."""

import time
from typing import Any

import httpx

from benchmarks.compose.engine import Compose, Container, run, until
from benchmarks.swap.table import Part

QUESTIONS = (
    "How far is the capital of Japan from Madrid?",
    "Is 2027 a prime number?",
    "What is the capital of France?",
    "How many kilometres are 26.2 miles?",
)
_PORTS = (5432, 8000, 8100, 8101)
_PROBE = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1.5).close()
        print(target)
    except OSError:
        pass
"""
_ASK_ROLES = """
import urllib.error, urllib.request
for role in ("planner", "caller", "summarizer"):
    for path in ("/v1/replica", "/metrics", "/docs"):
        try:
            urllib.request.urlopen(f"http://{role}:8101{path}", timeout=5)
            print(role + path)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                print(role + path, error.code)
"""


class Agent:
    """The gateway, through its published port."""

    def __init__(self, url: str, key: str) -> None:
        self.anybody = httpx.Client(base_url=url, timeout=180, trust_env=False)
        self.client = httpx.Client(
            base_url=url, timeout=180, trust_env=False, headers={"authorization": f"Bearer {key}"}
        )

    def is_ready(self) -> bool:
        try:
            return self.anybody.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def begin(self, count: int) -> list[str]:
        """Runs in the background; their ids."""
        started: list[str] = []
        for number in range(count):
            body = {"query": QUESTIONS[number % len(QUESTIONS)], "background": True, "deadline_seconds": 600}
            started.append(self.client.post("/v1/queries", json=body).raise_for_status().json()["run_id"])
        return started

    def run(self, run_id: str) -> dict[str, Any]:
        """The run as it stands; {} while the gateway is away."""
        try:
            response = self.client.get(f"/v1/runs/{run_id}")
            return response.json() if response.status_code == 200 else {}
        except httpx.HTTPError:
            return {}

    def finish(self, runs: list[str], seconds: float = 900) -> list[dict[str, Any]]:
        """Wait for all of them. Raises Broken."""
        until("runs to end", lambda: all(self.run(one).get("outcome") for one in runs), seconds, 1)
        return [self.run(one) for one in runs]


def asked(agent: Agent) -> Part:
    """A query through the published port, with a key and without."""
    part, started = Part("a query through the published port"), time.monotonic()
    body = {"query": QUESTIONS[0], "deadline_seconds": 170}
    answer = agent.client.post("/v1/queries", json=body).json()
    part.add("outcome", answer.get("outcome"), "answered", answer.get("outcome") == "answered")
    part.add("answer", answer.get("answer"), "names 10762.1 km", "10762" in str(answer.get("answer")))
    part.add("time", f"{time.monotonic() - started:.1f} s")
    status = agent.anybody.post("/v1/queries", json=body).status_code
    part.add("without a key", status, "401", status == 401)
    return part


def closed(compose: Compose) -> Part:
    """Nothing but the gateway's port can be reached from outside."""
    part, containers = Part("reachable from outside"), compose.containers()
    published = {one.service: one.published for one in containers if one.published}
    part.add("services with published ports", ", ".join(published), "gateway", list(published) == ["gateway"])
    targets = [f"{ip}:{port}" for one in containers for ip in one.addresses for port in _PORTS]
    part.none(f"ports that a container elsewhere reaches (of {len(targets)} tried)", _reached("bridge", targets))
    networks = {name for one in containers for name in one.details["NetworkSettings"]["Networks"]}
    open_networks = [name for name in sorted(networks) if _leads_out(name)]
    on_them = {
        one.service for one in containers if set(open_networks) & set(one.details["NetworkSettings"]["Networks"])
    }
    on_them -= {"examples"}  # ended
    part.add("services with a way out", ", ".join(sorted(on_them)), "gateway", on_them == {"gateway"})
    gateway = next(one for one in containers if one.service == "gateway")
    answers = run("docker", "exec", gateway.id, "python", "-c", _ASK_ROLES).splitlines()
    part.none("what roles answer without their token", answers)
    part.none("containers that are root, may write to their root file system or have capabilities", _loose(containers))
    return part


def scaled(compose: Compose, agent: Agent) -> Part:
    """A second planner."""
    part, started = Part("docker-compose up --scale planner=2"), time.monotonic()
    compose("up", "-d", "--no-build", "--no-recreate", "--scale", "planner=2")
    runs = agent.begin(2)  # while the second loads
    until("two planners that are healthy", lambda: _healthy(compose, "planner") == 2, 900, 2)
    part.add("until the second is ready", f"{time.monotonic() - started:.0f} s")
    part.none("runs that failed while it was loading", failed(agent.finish(runs)))
    return part


def swapped(compose: Compose, agent: Agent, version: str = "global-3") -> Part:
    """Other planner weights on both replicas, while runs go on."""
    part, runs = Part("a release of other planner weights"), agent.begin(2)
    compose.umi("weights", "add", "planner", "/checkpoints/global", "--release")
    started = time.monotonic()
    told = compose.umi("weights", "status", "--wait", "240", seconds=400)
    part.add("until all replicas serve it", f"{time.monotonic() - started:.1f} s (with the start of the command)")
    serving = [line for line in told.splitlines() if "planner" in line and version in line and "serving" in line]
    part.add("planners that serve it", len(serving), "2", len(serving) == 2)
    part.none("runs that failed meanwhile", failed(agent.finish(runs)))
    after = agent.finish(agent.begin(1))[0]
    part.add("a run that begins then is planned by", version, version, version in str(after))
    return part


def planner_killed(compose: Compose, agent: Agent) -> Part:
    """SIGKILL for one of two planners, in the middle of runs."""
    part, runs = Part("one of two planners killed (SIGKILL)"), agent.begin(6)
    time.sleep(2)
    victim = next(one for one in compose.containers("planner") if one.is_running)
    killed = time.monotonic()
    compose.kill(victim)
    part.none("of 6 runs, those that failed", failed(agent.finish(runs)))
    part.add("until the last of them had ended", f"{time.monotonic() - killed:.0f} s")
    until("the planner to come back", lambda: _healthy(compose, "planner") == 2, 900, 2)
    part.add("until the planner was ready again", f"{time.monotonic() - killed:.0f} s")
    return part


def gateway_killed(compose: Compose, agent: Agent) -> Part:
    """SIGKILL for the gateway, in the middle of runs."""
    part, runs = Part("the gateway killed (SIGKILL)"), agent.begin(6)
    time.sleep(2)
    killed = time.monotonic()
    compose.kill(compose.containers("gateway")[0])
    until("the gateway to come back", agent.is_ready, 300)
    part.add("until the gateway answered again", f"{time.monotonic() - killed:.1f} s")
    part.none("of 6 runs, those that failed", failed(agent.finish(runs)))
    part.add("until the last of them had ended", f"{time.monotonic() - killed:.0f} s")
    return part


def database_restarted(compose: Compose, agent: Agent) -> Part:
    """PostgreSQL goes away and comes back; what was stored is there, and the gateway finds it by itself."""
    part, before = Part("PostgreSQL killed (SIGKILL)"), agent.finish(agent.begin(1))[0]
    killed = time.monotonic()
    compose.kill(compose.containers("postgres")[0])
    until("the run to be seen again", lambda: bool(agent.run(before["run_id"])), 300)
    part.add("until a run could be seen again", f"{time.monotonic() - killed:.1f} s")
    part.none("of 2 runs that began then, those that failed", failed(agent.finish(agent.begin(2))))
    return part


def stopped(compose: Compose) -> Part:
    """All are told to stop, and end by themselves."""
    part, started = Part("docker-compose stop"), time.monotonic()
    compose("stop")
    part.add("time", f"{time.monotonic() - started:.0f} s")
    ended = [f"{one.service}: {one.exit_code}" for one in compose.containers() if one.exit_code not in (0, 143)]
    part.none("containers that had to be killed", ended)
    return part


def _reached(network: str, targets: list[str]) -> list[str]:
    probe = ("docker", "run", "--rm", f"--network={network}", "umi/gateway:0.1.0", "python", "-c", _PROBE)
    return run(*probe, *targets, seconds=30 + 2 * len(targets)).split()


def _leads_out(network: str) -> bool:
    return network != "none" and run("docker", "network", "inspect", "-f", "{{.Internal}}", network).strip() == "false"


def _loose(containers: list[Container]) -> list[str]:
    found: list[str] = []
    for one in containers:
        host, user = one.details["HostConfig"], one.details["Config"]["User"]
        is_tight = (
            host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
        )
        if not is_tight or user.partition(":")[0] in ("", "0", "root"):
            found.append(one.service)
    return found


def _healthy(compose: Compose, service: str) -> int:
    states = [one.details["State"] for one in compose.containers(service)]
    return sum(state["Running"] and state.get("Health", {}).get("Status") == "healthy" for state in states)


def failed(runs: list[dict[str, Any]]) -> list[str]:
    """Those that something went wrong with, in a sentence each."""
    return [f"{one['run_id']}: {one['outcome']}: {one.get('error')}" for one in runs if one["outcome"] not in _ENDINGS]


_ENDINGS = {"answered", "gave_up", "max_steps"}
"""How a run ends that nothing went wrong with, whatever its model made of the question."""
