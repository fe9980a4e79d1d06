"""A Compose project, driven through whichever of `docker compose` and `docker-compose` is there."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "umi-test"


class Broken(Exception):
    """A command failed, or something did not happen in time; the message says which."""


def run(*command: str, env: dict[str, str] | None = None, seconds: float = 600) -> str:
    """What a command prints. Raises Broken with the end of what it said."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{' '.join(command)}: no end within {seconds:g} s") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Broken(f"{' '.join(command)}: exit status {done.returncode}\n{said}")
    return done.stdout


@dataclass(frozen=True)
class Container:
    """A container as `docker inspect` describes it."""

    details: dict[str, Any]

    @property
    def id(self) -> str:
        return self.details["Id"]

    @property
    def service(self) -> str:
        return self.details["Config"]["Labels"]["com.docker.compose.service"]

    @property
    def addresses(self) -> list[str]:
        """Its address in each network."""
        networks = self.details["NetworkSettings"]["Networks"].values()
        return [network["IPAddress"] for network in networks if network["IPAddress"]]

    @property
    def published(self) -> list[str]:
        """Ports of this machine that lead to it."""
        ports = self.details["NetworkSettings"]["Ports"] or {}
        return [f"{at['HostIp']}:{at['HostPort']}" for bound in ports.values() for at in bound or ()]

    @property
    def is_running(self) -> bool:
        return self.details["State"]["Running"]

    @property
    def exit_code(self) -> int:
        return self.details["State"]["ExitCode"]

    @property
    def restarts(self) -> int:
        return self.details["RestartCount"]


class Compose:
    """One project of docker-compose.yml. `env` holds the settings that the file reads."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {**env, "COMPOSE_PROJECT_NAME": PROJECT, "COMPOSE_HTTP_TIMEOUT": "600"}
        has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        self.program = ("docker", "compose") if has_plugin else ("docker-compose",)
        if not has_plugin:
            self.env |= {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}

    def __call__(self, *arguments: str, seconds: float = 1200) -> str:
        """Run a Compose command; what it prints."""
        return run(*self.program, *arguments, env=self.env, seconds=seconds)

    def umi(self, *arguments: str, seconds: float = 300) -> str:
        """Run the `umi` command as an operator does."""
        return self("run", "--rm", "-T", "-e", "COLUMNS=200", "umi", *arguments, seconds=seconds)

    def containers(self, *services: str) -> list[Container]:
        """Of these services, or of all; ended ones as well."""
        chosen = [f"--filter=label=com.docker.compose.project={PROJECT}"]
        ids = run("docker", "ps", "-aq", *chosen).split()
        found = [Container(details) for details in json.loads(run("docker", "inspect", *ids))] if ids else []
        return [one for one in found if not services or one.service in services]

    def kill(self, container: Container) -> None:
        """End a container's process as a crash would: an engine does not restart what `docker kill` ended."""
        os.kill(container.details["State"]["Pid"], signal.SIGKILL)

    def logs(self, lines: int = 15) -> str:
        """The end of every container's output."""
        texts: list[str] = []
        for one in self.containers():
            said = subprocess.run(["docker", "logs", "--tail", str(lines), one.id], capture_output=True, text=True)
            texts.append(f"--- {one.service} (exit {one.exit_code})\n{said.stdout}{said.stderr}")
        return "\n".join(texts)


def until(what: str, check: Any, seconds: float, every: float = 0.5) -> float:
    """Wait until `check()` is true; the seconds it took. Raises Broken."""
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > seconds:
            raise Broken(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - started
