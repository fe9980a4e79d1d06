"""A Ray cluster of several nodes on this machine: each a tree of processes that begins with `ray start --block`."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from benchmarks.compose.engine import ROOT, Broken, until
from tests.fakes import free_port

_BIN = Path(sys.executable).parent
_MARK = "UMI_TEST_RAY"
_STORE_BYTES = 100 * 2**20
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it would count the memory of everything else on this machine
    "RAY_prestart_worker_first_driver": "0",  # processes for which there is no work
    "RAY_worker_niceness": "0",  # by default 15, which is nothing at all on a machine that is busy
    # A machine that does much else is slow, not dead.
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


@dataclass
class Node:
    """A node of the cluster: the process that started it."""

    name: str
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """SIGKILL for all its processes at once, as if the machine had lost its power."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            tree = [*parent.children(recursive=True), parent]
            for one in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A context manager; leaving it ends every process that was started in it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="umi-ray-"))  # short: sockets lie in it
        self._mark = uuid.uuid4().hex
        self.env = {**os.environ, **_QUIET, **env, "PYTHONPATH": str(ROOT), _MARK: self._mark}
        self._gcs, self.dashboard = free_port(), f"http://127.0.0.1:{free_port()}"
        self._nodes: dict[str, Node] = {}
        self._ports = iter(range(secrets.choice(range(20_000, 50_000, 1_000)), 60_000, 1_000))
        self._client = httpx.Client(base_url=self.dashboard, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()
        for process in self.left():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the nodes in good order, the head last."""
        for node in [*self._nodes.values()][::-1]:
            node.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(30)
        self._nodes.clear()

    def node(self, name: str, cpus: int, labels: str) -> Node:
        """Start a node, the first as the head. Returns once it is part of the cluster. Raises Broken."""
        first = next(self._ports)
        dashboard = self.dashboard.rpartition(":")[2]
        place = (
            [
                "--head",
                f"--port={self._gcs}",
                f"--dashboard-port={dashboard}",
                f"--temp-dir={self.folder}",
                "--no-monitor",
            ]
            if not self._nodes
            else [f"--address=127.0.0.1:{self._gcs}"]
        )
        options = ["--block", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--num-gpus=0", f"--labels={labels}"]
        options += [f"--min-worker-port={first}", f"--max-worker-port={first + 900}"]
        options += [f"--dashboard-agent-listen-port={first + 910}", f"--dashboard-agent-grpc-port={first + 911}"]
        options += [f"--runtime-env-agent-port={first + 912}", f"--metrics-export-port={first + 913}"]
        options += [f"--memory={32 * 2**30}", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"]
        node_id = secrets.token_hex(28)
        log = (self.folder / f"{name}.log").open("wb")
        command = [str(_BIN / "ray"), "start", *place, *options]
        env = {**self.env, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id}
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
        self._tell_port(node_id, first + 910)
        node = self._nodes[name] = Node(name, process)
        count = len(self._nodes)
        until(f"node {name} to join", self._watched(lambda: len(self._alive()) == count), 600)
        return node

    def _tell_port(self, node_id: str, port: int) -> None:
        """Say where a node's agent will listen. The agent itself does when it has started: a node waits but 15 s."""
        until("Ray's session", lambda: any(self.folder.glob("session_2*/sockets")), 300, 0.05)
        for session in self.folder.glob("session_2*"):
            (session / f"dashboard_agent_listen_port_{node_id}").write_text(str(port))

    def forget(self, node: Node) -> None:
        """It is gone."""
        del self._nodes[node.name]

    def deploy(self, config: Path) -> None:
        """`serve deploy`, again while the proxies take longer to start than Serve waits for them. Raises Broken."""
        command = [str(_BIN / "serve"), "deploy", str(config), "--address", self.dashboard]
        for _ in range(10):
            done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True)
            if done.returncode == 0:
                return
            if "proxies not available" not in done.stderr:
                break
        raise Broken(f"serve deploy: {done.stdout[-2000:]}{done.stderr[-2000:]}")

    def applications(self) -> dict[str, Any]:
        """What Serve says of every application; {} while it cannot be asked."""
        try:
            response = self._client.get("/api/serve/applications/")
            return response.json()["applications"] if response.status_code == 200 else {}
        except httpx.HTTPError:
            return {}

    def replicas(self, application: str, state: str = "RUNNING") -> list[dict[str, Any]]:
        """Of an application with one deployment, those in `state`: replica_id, node_id, pid."""
        deployments = self.applications().get(application, {}).get("deployments", {}).values()
        return [one for deployment in deployments for one in deployment["replicas"] if one["state"] == state]

    def is_running(self) -> bool:
        """Whether every application is. Raises Broken when one has failed for good."""
        found = self._watched(self.applications)()
        for name, one in found.items():
            if one["status"] == "DEPLOY_FAILED":
                raise Broken(f"{name}: {one['message']}\n{one['deployments']}")
        return bool(found) and all(one["status"] == "RUNNING" for one in found.values())

    def node_of(self, pid: int) -> Node:
        """The node that a process belongs to."""
        above = {one.pid for one in psutil.Process(pid).parents()}
        return next(node for node in self._nodes.values() if node.process.pid in above)

    def left(self) -> list[psutil.Process]:
        """The processes that were started here and live, by a mark in their environment."""
        return list(self._marked())

    def logs(self, lines: int = 25) -> str:
        """The ends of Serve's logs."""
        files = sorted(self.folder.glob("session_latest/logs/serve/*.log"), key=lambda path: path.stat().st_mtime)
        ends = (f"--- {path.name}\n" + "\n".join(path.read_text().splitlines()[-lines:]) for path in files[-8:])
        return "\n".join(ends)

    def _alive(self) -> list[dict[str, Any]]:
        try:
            nodes = self._client.get("/nodes", params={"view": "summary"}).json()["data"]["summary"]
        except (httpx.HTTPError, ValueError, KeyError):
            return []
        return [one for one in nodes if one["raylet"].get("state") == "ALIVE"]

    def _watched(self, look: Callable[[], Any]) -> Callable[[], Any]:
        def check() -> Any:
            for node in self._nodes.values():
                if node.process.poll() is not None:
                    said = (self.folder / f"{node.name}.log").read_text()[-3000:]
                    raise Broken(f"node {node.name} ended with {node.process.returncode}\n{said}")
            return look()

        return check

    def _marked(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get(_MARK) == self._mark:
                    yield process
