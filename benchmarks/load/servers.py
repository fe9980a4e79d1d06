"""Starting the servers, one process each, and the environment that LangGraph needs."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.load import backend
from tests.fakes import free_port
from umi.client import Client

LANGGRAPH = ("langgraph==1.2.22", "langchain-openai==1.7.3", "langgraph-checkpoint-sqlite==3.1.2")
_SERVING = ("fastapi==0.136.3", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "httpx==0.28.1")
_HERE = Path(__file__).parent
_PATIENCE = 180.0


@dataclass(frozen=True)
class Server:
    """A process that serves at `url`."""

    name: str
    url: str
    process: psutil.Process

    @property
    def cpu_seconds(self) -> float:
        """User and system time until now, of all threads."""
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def mebibytes(self) -> float:
        """Resident memory."""
        return self.process.memory_info().rss / 2**20


def cores() -> tuple[set[int], set[int]]:
    """Those of the servers that are measured, one at a time, and those of everything else; the same if there is one.

    One core each, since a process that the kernel moves about costs more than its work.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextlib.contextmanager
def on(chosen: set[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, runs on these cores; what it started stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def serving(name: str, command: list[str], port: int, log: Path, env: dict[str, str] | None = None) -> Iterator[Server]:
    """A server, once it answers at /healthz. Raises RuntimeError when it does not."""
    url = f"http://127.0.0.1:{port}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UMI_", "LANGSMITH", "LANGCHAIN"))}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**clean, **(env or {})})
    try:
        _wait(url, process, f"{name} did not start, see {log}")
        yield Server(name, url, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scripted_backend(log: Path) -> Iterator[Server]:
    """Roles, model and tool."""
    port = free_port()
    with serving("backend", [sys.executable, "-m", backend.__name__, str(port)], port, log) as server:
        yield server


@contextlib.contextmanager
def gateway(backend_url: str, folder: Path, log: Path) -> Iterator[Server]:
    """The gateway as it is shipped, its log on, on a new SQLite file, with the tool registered."""
    port = free_port()
    env = {f"UMI_{role}_URL": backend_url for role in ("PLANNER", "CALLER", "SUMMARIZER")}
    env |= {"UMI_PORT": str(port), "UMI_DATABASE": f"sqlite:///{folder}/umi-{port}.db", "UMI_TOOL_ALLOW": "127.0.0.1"}
    with serving("gateway", [sys.executable, "-m", "gateway"], port, log, env) as server:
        with Client(server.url) as client:
            client.toolsets.register("weather", url=f"{backend_url}/openapi.json")
        yield server


@contextlib.contextmanager
def loop(client: str, backend_url: str, log: Path) -> Iterator[Server]:
    """The bare loop on aiohttp or httpx."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.load.peers.loop", str(port), backend_url, client]
    with serving(f"{client} loop", command, port, log) as server:
        yield server


@contextlib.contextmanager
def langgraph(python: Path, backend_url: str, folder: Path, log: Path) -> Iterator[Server]:
    """LangGraph with its checkpointer on a new SQLite file."""
    port = free_port()
    command = [str(python), str(_HERE / "peers/langgraph_server.py"), str(port), backend_url]
    with serving("LangGraph", [*command, f"{folder}/langgraph-{port}.db"], port, log) as server:
        yield server


def langgraph_python(environment: Path) -> Path | None:
    """The interpreter of an environment that has LangGraph, made there if it is not; None when it cannot be had."""
    python = environment / "bin/python"
    wanted = [*LANGGRAPH, *_SERVING]
    if python.exists() and subprocess.run([python, "-c", "import langgraph.checkpoint.sqlite.aio"]).returncode == 0:
        return python
    print(f"making {environment} with {', '.join(LANGGRAPH)}")
    try:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"LangGraph is left out: {error}")
        return None
    return python


def _wait(url: str, process: subprocess.Popen[bytes], complaint: str) -> None:
    until = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/healthz", trust_env=False, timeout=5).status_code < 500:
                return
        time.sleep(0.1)
    raise RuntimeError(complaint)
