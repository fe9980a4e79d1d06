"""umi up: the whole agent on this machine, every process on the loopback address."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.cli.api import Api, Failed
from gateway.cli.ask import show_run
from gateway.cli.shelf import desk, done
from gateway.cli.supervisor import PortInUse, Service, ServiceDied, State, Supervisor
from gateway.cli.tools import register_examples
from umi.registry import Registry
from umi.roles import Role

_STYLES = {State.STARTING: "yellow", State.READY: "green", State.DIED: "bold red", State.STOPPED: "dim"}
_THIS_MACHINE = "127.0.0.0/8,::1"
WhenReady = Callable[[Console], None]


def up(
    backbone: Annotated[Path, typer.Option(help="Directory of the backbone.")] = Path("var/backbone"),
    checkpoints: Annotated[Path, typer.Option(help="Directory with a checkpoint per role.")] = Path("checkpoints"),
    single: Annotated[Path | None, typer.Option(help="One checkpoint that plays all three roles instead.")] = None,
    registry: Annotated[
        str | None, typer.Option(envvar="UMI_REGISTRY", help="Serve what this registry releases instead: umi weights.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 8000,
    role_port: Annotated[int, typer.Option(help="Port of the planner; caller and summarizer follow.")] = 8101,
    tools_port: Annotated[int, typer.Option(help="Port of the example tools.")] = 8100,
    with_tools: Annotated[bool, typer.Option("--tools/--no-tools", help="Serve the example tools as well.")] = True,
    ask: Annotated[str | None, typer.Option(help="Ask this once everything is ready, then stay up.")] = None,
    logs: Annotated[Path, typer.Option(help="Where the processes' output goes.")] = Path("var/logs"),
) -> None:
    """Start the three roles, the gateway and the example tools; Ctrl-C stops them all."""
    _require(backbone, f"There is no backbone in {backbone}. Make it with: python -m services.backbone {backbone}")
    if registry is not None:
        weights = {role: ("--registry", registry) for role in Role}
        _require_releases(desk(registry).registry)
    else:
        directories = {role: single or checkpoints / role for role in Role}
        for directory in directories.values():
            _require(directory, f"There is no checkpoint in {directory}: name another with --checkpoints or --single.")
        weights = {role: ("--checkpoint", str(directory)) for role, directory in directories.items()}
    chosen = services(backbone, weights, port, role_port, tools_port if with_tools else None, registry)
    gateway = Api(f"http://127.0.0.1:{port}")

    def when_ready(console: Console) -> None:
        if with_tools:
            register_examples(gateway, f"http://127.0.0.1:{tools_port}")
        suffix = "" if port == 8000 else f" --gateway {gateway.url}"
        console.print(f"\nReady. The API is at {gateway.url}/docs. In another terminal, try:")
        console.print(f'  umi tools{suffix}\n  umi ask "What is the capital of France?"{suffix}\n', markup=False)
        if ask is not None:
            show_run(gateway, {"query": ask}, console)

    raise typer.Exit(supervise(chosen, logs, Console(), when_ready))


def services(
    backbone: Path,
    weights: dict[Role, tuple[str, str]],
    port: int,
    role_port: int,
    tools_port: int | None,
    registry: str | None = None,
    python: str = sys.executable,
) -> list[Service]:
    """The processes of the whole agent, without the tools if they have no port; `weights` are each role's options.

    The gateway's API is about `registry`, if there is one.
    """
    found: list[Service] = []
    log = {"UMI_LOG": os.environ.get("UMI_LOG", "text")}  # here people read the files
    urls: dict[str, str] = {}
    for number, role in enumerate(Role):
        url = f"http://127.0.0.1:{role_port + number}"
        urls[f"UMI_{role.upper()}_URL"] = url
        address = ("--host", "127.0.0.1", "--port", str(role_port + number))
        command = (python, "-m", f"services.{role}", *address, "--backbone", str(backbone), *weights[role])
        found.append(Service(role.value, command, f"{url}/readyz", log))
    if tools_port is not None:
        command = (python, "-m", "examples.tools", "--port", str(tools_port))
        found.append(Service("tools", command, f"http://127.0.0.1:{tools_port}/healthz"))
    # Tools on this machine are what an embedded stack is for; a document from elsewhere cannot lead to them by itself.
    env = {"UMI_HOST": "127.0.0.1", "UMI_PORT": str(port), **urls, **log}
    if registry is not None:
        env["UMI_REGISTRY"] = registry
    env["UMI_TOOL_ALLOW"] = os.environ.get("UMI_TOOL_ALLOW", _THIS_MACHINE)
    found.append(Service("gateway", (python, "-m", "gateway"), f"http://127.0.0.1:{port}/readyz", env))
    return found


def supervise(chosen: list[Service], logs: Path, console: Console, when_ready: WhenReady, grace: float = 10.0) -> int:
    """Run `chosen` until a signal comes (returns 0) or one of them dies (returns 1); none is left then.

    `when_ready` is called from a thread of its own, so that a service that dies meanwhile is noticed.
    """
    with _signals() as told, Supervisor(chosen, logs, grace) as supervisor:
        try:
            supervisor.start()
            if _wait_ready(supervisor, console, told):
                threading.Thread(target=_ready, args=(when_ready, console, told), daemon=True).start()
            while not told.wait(0.25):
                supervisor.poll()
        except (PortInUse, ServiceDied) as error:
            console.print(str(error), style="red", markup=False, highlight=False)
            return 1
        console.print("Stopping…")
    return 0


def _ready(when_ready: WhenReady, console: Console, told: threading.Event) -> None:
    try:
        when_ready(console)
    except Failed as error:
        if not told.is_set():
            console.print(str(error), style="red", markup=False)


def _wait_ready(supervisor: Supervisor, console: Console, told: threading.Event) -> bool:
    """Show the states until all are ready; False when told to stop before."""
    if not console.is_terminal:
        return _wait_in_lines(supervisor, console, told)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                is_ready = supervisor.poll()
            finally:
                live.update(_table(supervisor), refresh=True)
            if is_ready or told.wait(0.25):
                return is_ready


def _wait_in_lines(supervisor: Supervisor, console: Console, told: threading.Event) -> bool:
    """The same for a log file: a line for each service that became ready."""
    shown: set[str] = set()
    while True:
        is_ready = supervisor.poll()
        for child in supervisor.children:
            if child.state is State.READY and child.service.name not in shown:
                shown.add(child.service.name)
                console.print(f"{child.service.name}: ready after {child.seconds:.0f} s", highlight=False)
        if is_ready or told.wait(0.25):
            return is_ready


def _table(supervisor: Supervisor) -> Table:
    table = Table("process", "state", "seconds", "log", box=None)
    for child in supervisor.children:
        state = f"[{_STYLES[child.state]}]{child.state}[/]"
        table.add_row(child.service.name, state, f"{child.seconds:.0f}", str(child.log))
    return table


@contextmanager
def _signals() -> Generator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set, until the block is left."""
    told = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def tell(_number: int, _frame: FrameType | None) -> None:
        told.set()

    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_releases(registry: Registry) -> None:
    for role in Role:
        if done(lambda role=role: registry.release(role)) is None:
            raise Failed(
                f"{registry.place} has no release of the {role} yet. Make one with: umi weights add {role} DIRECTORY, "
                f"then umi weights release {role} VERSION"
            )


def _require(directory: Path, message: str) -> None:
    if not directory.is_dir():
        raise Failed(message)
