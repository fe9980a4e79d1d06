"""The processes of the benchmark: real role services, gateways and the example tools, each by a name."""

import sys
import time
from pathlib import Path
from typing import Self

import httpx

from gateway.cli.api import Api
from gateway.cli.supervisor import Child, Service, State
from gateway.cli.up import register_examples
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import Replica

READY_SECONDS = 300
TOOLS_PORT, GATEWAY_PORT, ROLE_PORT = 8100, 8000, 8101
_GRACE = 10.0
_client = httpx.Client(timeout=30, trust_env=False)
"""To make one takes as long as a hundred requests: replicas are asked all the time, by more than one thread."""


class House:
    """A context manager; leaving it stops whatever still runs."""

    def __init__(self, registry: Path, backbone: Path, folder: Path, logs: Path) -> None:
        self.registry, self._backbone, self._folder, self._logs = registry, backbone, folder, logs
        self._running: dict[str, Child] = {}
        self._services: dict[str, Service] = {}
        self._ports = iter(range(ROLE_PORT, ROLE_PORT + 10))
        self._client = httpx.Client(timeout=5.0, trust_env=False)

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)
        self._client.close()

    def role(self, name: str, role: Role, registry: Path | None = None) -> str:
        """Start a role service that follows a registry; returns its address."""
        port = next(self._ports)
        options = ("--host", "127.0.0.1", "--port", str(port), "--backbone", str(self._backbone))
        command = (sys.executable, "-m", f"services.{role}", *options, "--registry", str(registry or self.registry))
        return self._add(Service(name, command, f"http://127.0.0.1:{port}/readyz"))

    def tools(self) -> None:
        """Start the example tools."""
        command = (sys.executable, "-m", "examples.tools", "--port", str(TOOLS_PORT))
        self._add(Service("tools", command, f"http://127.0.0.1:{TOOLS_PORT}/healthz"))

    def gateway(self, roles: dict[Role, str]) -> str:
        """Start a gateway on these roles, with the example tools registered once it is ready; returns its address."""
        env = {f"UMI_{role.upper()}_URL": url for role, url in roles.items()}
        env |= {"UMI_HOST": "127.0.0.1", "UMI_PORT": str(GATEWAY_PORT), "UMI_TOOL_ALLOW": "127.0.0.1"}
        env["UMI_DATABASE"] = f"sqlite:///{self._folder}/runs-of-{roles[Role.PLANNER].rpartition(':')[2]}.db"
        command = (sys.executable, "-m", "gateway")
        url = self._add(Service("gateway", command, f"http://127.0.0.1:{GATEWAY_PORT}/readyz", env))
        self.wait("tools", "gateway")
        register_examples(Api(url), f"http://127.0.0.1:{TOOLS_PORT}")
        return url

    def start(self, name: str) -> None:
        """Start again what was stopped or killed."""
        self._running[name] = Child(self._services[name], self._logs / f"bench-swap-{name}.log", _GRACE)

    def stop(self, *names: str) -> None:
        """End processes in good order."""
        ending = [self._running.pop(name) for name in names]
        for child in ending:
            child.process.terminate()
        for child in ending:
            child.process.wait(_GRACE + 5)

    def kill(self, name: str) -> None:
        """SIGKILL; the kernel gives it to the service as well, whose parent this was, before anything can be tidied."""
        child = self._running.pop(name)
        child.process.kill()
        child.process.wait()

    def wait(self, *names: str) -> float:
        """Seconds until all of them are ready. Raises RuntimeError when one ends or takes too long."""
        started = time.monotonic()
        while True:
            for name in names:
                child = self._running[name]
                child.poll(self._client)
                if child.state is State.DIED or time.monotonic() - started > READY_SECONDS:
                    raise RuntimeError(f"{name} did not get ready: {child.obituary()}")
            if all(self._running[name].state is State.READY for name in names):
                return time.monotonic() - started
            time.sleep(0.2)

    def _add(self, service: Service) -> str:
        self._services[service.name] = service
        self.start(service.name)
        return f"http://127.0.0.1:{service.port}"


def replica(url: str) -> Replica:
    """What a role service says of itself."""
    return Replica.model_validate_json(_client.get(f"{url}/v1/replica").content)


def plan(url: str, trajectory: Trajectory) -> tuple[str, str]:
    """What a planner writes, and the version that wrote it."""
    body = {"run_id": "bench", "trajectory": trajectory.model_dump(mode="json")}
    reply = httpx.post(f"{url}/v1/plan", json=body, timeout=120, trust_env=False).raise_for_status().json()
    return f"{reply['plan']['rationale']} {reply['plan']['turn']}", str(reply["version"])
