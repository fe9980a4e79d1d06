"""Starting processes together, waiting until they are ready, and stopping them without leaving any behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx

_CHILD = Path(__file__).parents[1] / "child.py"


class State(StrEnum):
    """Where a service stands."""

    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Service:
    """A process that serves HTTP; ready when `ready_url` answers 200. `env` is added to the environment."""

    name: str
    command: tuple[str, ...]
    ready_url: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def port(self) -> int:
        """The port that it will listen on."""
        return urlsplit(self.ready_url).port or 80


class PortInUse(Exception):
    """Something listens already where a service should."""


class ServiceDied(Exception):
    """A service ended by itself; the message has its name, its status and the end of its log."""


class Child:
    """A started service."""

    def __init__(self, service: Service, log: Path, grace: float) -> None:
        self.service, self.log, self.state, self.started = service, log, State.STARTING, time.monotonic()
        self.seconds = 0.0
        """How long it took to become ready, or has taken so far."""
        command = [sys.executable, "-I", str(_CHILD), str(os.getpid()), str(grace), *service.command]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **service.env},
                start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
            )

    def poll(self, client: httpx.Client) -> None:
        """Bring `state` up to date."""
        if self.process.poll() is not None:
            self.state = State.DIED
        elif self.state is State.STARTING:
            self.seconds = time.monotonic() - self.started
            with contextlib.suppress(httpx.HTTPError):
                if client.get(self.service.ready_url).status_code == 200:
                    self.state = State.READY

    def obituary(self, lines: int = 15) -> str:
        """How it ended, and the last lines of its log."""
        tail = "\n".join("  " + line for line in _tail(self.log, lines))
        how = _how(self.process.returncode)
        return f"{self.service.name} died ({how}). The end of {self.log}:\n{tail or '  (empty)'}"


class Supervisor:
    """Use as a context manager: leaving it stops everything that was started."""

    def __init__(self, services: Iterable[Service], logs: Path, grace: float = 10.0) -> None:
        self.services, self.children = list(services), list[Child]()
        self._logs, self._grace = logs, grace
        self._client = httpx.Client(timeout=1.0, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything. Raises PortInUse before anything is started."""
        for service in self.services:
            _require_free(service)
        self._logs.mkdir(parents=True, exist_ok=True)
        for service in self.services:
            self.children.append(Child(service, self._logs / f"{service.name}.log", self._grace))

    def poll(self) -> bool:
        """Whether all are ready. Raises ServiceDied."""
        for child in self.children:
            child.poll(self._client)
        for child in self.children:
            if child.state is State.DIED:
                raise ServiceDied(child.obituary())
        return all(child.state is State.READY for child in self.children)

    def stop(self) -> None:
        """SIGTERM to all at once, SIGKILL to what is left after `grace`; returns when none is left."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()
        end = time.monotonic() + self._grace + 3  # each has its own keeper, which kills after `grace`
        for child in self.children:
            try:
                child.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
            if child.state is not State.DIED:
                child.state = State.STOPPED
        self._client.close()


def _require_free(service: Service) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError as error:
            message = f"Port {service.port} is in use, and {service.name} needs it: stop what listens there first."
            raise PortInUse(message) from error


def _how(code: int | None) -> str:
    if code is not None and code > 128:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(code - 128).name}"
    return f"exit status {code}"


def _tail(path: Path, lines: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16_384))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
