"""The supervisor behind `umi up`, with tiny real servers."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gateway.cli.supervisor import PortInUse, Service, Supervisor
from gateway.cli.up import services, supervise
from tests.fakes import free_port
from umi.roles import Role

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SERVER = """
import http.server, signal, subprocess, sys
flags = sys.argv[2]
if "die" in flags:
    print("no weights here", flush=True)
    sys.exit(3)
if "grandchild" in flags:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[3]], start_new_session=True)
if "stubborn" in flags:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

UP = """
import sys
from pathlib import Path
from rich.console import Console
from tests.unit.test_gateway_supervisor import fake
from gateway.cli.up import supervise
chosen = [fake("first", sys.argv[1], "grandchild"), fake("second", sys.argv[1])]
sys.exit(supervise(chosen, Path(sys.argv[2]), Console(), lambda console: console.print("all ready"), grace=2))
"""


def fake(name: str, mark: str, flags: str = "-") -> Service:
    """A server that is ready at once, findable by `mark` in its command line."""
    port = free_port()
    return Service(name, (sys.executable, "-c", SERVER, str(port), flags, mark), f"http://127.0.0.1:{port}/")


@pytest.fixture
def mark() -> Iterator[str]:
    yield uuid.uuid4().hex


def alive(mark: str) -> list[int]:
    """Processes with `mark` in their command line."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until_none_is_left(mark: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while alive(mark):
        assert time.monotonic() < end, "processes were left behind"
        time.sleep(0.05)


def wait_ready(supervisor: Supervisor) -> None:
    end = time.monotonic() + 15
    while not supervisor.poll():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_stopping_ends_grandchildren_and_processes_that_ignore_sigterm(tmp_path: Path, mark: str) -> None:
    with Supervisor([fake("a", mark, "grandchild"), fake("b", mark, "stubborn")], tmp_path, grace=0.5) as supervisor:
        supervisor.start()
        wait_ready(supervisor)
        assert len(alive(mark)) == 5  # two keepers, two servers, one grandchild
    assert alive(mark) == []


def test_a_service_that_dies_is_named_with_the_end_of_its_log_and_the_others_are_stopped(
    tmp_path: Path, mark: str
) -> None:
    console = Console(file=io.StringIO(), width=200)
    chosen = [fake("healthy", mark, "grandchild"), fake("planner", mark, "die")]
    assert supervise(chosen, tmp_path, console, lambda _: None) == 1
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "planner died (exit status 3)" in printed
    assert "no weights here" in printed
    assert alive(mark) == []


def test_a_port_in_use_is_one_sentence_and_nothing_is_started(tmp_path: Path, mark: str) -> None:
    first, second = fake("first", mark), fake("second", mark)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", second.port))
        taken.listen()
        with Supervisor([first, second], tmp_path) as supervisor:
            with pytest.raises(PortInUse, match=f"Port {second.port} is in use, and second needs it"):
                supervisor.start()
            assert supervisor.children == []


def start_up(tmp_path: Path, mark: str) -> "subprocess.Popen[str]":
    """`umi up` with fake services, as a process, when everything is ready."""
    command = [sys.executable, "-c", UP, mark, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("all ready" in line for line in process.stdout)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_process(tmp_path: Path, mark: str, number: int) -> None:
    with start_up(tmp_path, mark) as process:
        assert len(alive(mark)) >= 6
        process.send_signal(number)
        assert process.wait(10) == 0
    assert alive(mark) == []


def test_killing_the_supervisor_itself_leaves_no_process(tmp_path: Path, mark: str) -> None:
    with start_up(tmp_path, mark) as process:
        process.kill()
        wait_until_none_is_left(mark)


def test_everything_that_up_starts_listens_on_loopback_only() -> None:
    weights = {role: ("--checkpoint", f"c/{role}") for role in Role}
    chosen = services(Path("b"), weights, port=9000, role_port=9101, tools_port=9100, python="python")
    assert [service.name for service in chosen] == ["planner", "caller", "summarizer", "tools", "gateway"]
    assert [service.port for service in chosen] == [9101, 9102, 9103, 9100, 9000]
    assert chosen[1].command[-4:] == ("--backbone", "b", "--checkpoint", "c/caller")
    assert chosen[-1].env["UMI_CALLER_URL"] == "http://127.0.0.1:9102"
    assert {service.env.get("UMI_HOST", "127.0.0.1") for service in chosen} == {"127.0.0.1"}
