"""Start a role service as a process: settings, environment, checkpoint, server, exit code."""

import multiprocessing
import os
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from remote import open_registry
from services.app import create_app
from services.orphan import watch_children
from services.role import RoleBehaviour
from services.settings import RoleSettings
from services.vllm_engine import VllmEngine, fits
from umi import logs
from umi.errors import UmiError
from umi.manifest import Checkpoint
from umi.registry import Registry
from umi.tracing import start as start_tracing

_SECONDS_TO_FINISH = 6
_PRELOAD = ("libtcmalloc_minimal.so.4", "libiomp5.so")
_LIBRARY_DIRS = (Path(sys.prefix) / "lib", Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu"))


def run(behaviour: RoleBehaviour) -> None:
    """Serve `behaviour` until SIGTERM (exit code 0) or until the engine fails (1, and one sentence on stderr)."""
    role = behaviour.role
    settings = _settings(f"python -m services.{role}")
    logs.configure(settings.log_level, settings.log)
    environment(settings)
    watch_children()
    end_traces = start_tracing(f"umi-{role}")
    failures: list[str] = []

    def stop(reason: str) -> None:
        failures.append(reason)
        server.should_exit = True

    try:
        app = create_app(behaviour, VllmEngine(settings), source(settings), settings, stop)
    except UmiError as error:
        sys.exit(f"{role}: {error}")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )
    signal.signal(signal.SIGTERM, _already_handled)
    signal.signal(signal.SIGINT, _already_handled)
    server.run()
    end_traces()
    if failures:
        print(f"{role}: {failures[0]}", file=sys.stderr)
    for child in multiprocessing.active_children():  # an engine that was still loading
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failures or not server.started else 0)  # a half-loaded engine in a thread must not hold us up


def source(settings: RoleSettings) -> Checkpoint | Registry:
    """The weights that a role serves: what a registry releases, or one checkpoint. Raises UmiError."""
    if settings.registry is not None:
        return open_registry(settings.registry, settings.registry_cache)
    checkpoint = Checkpoint.open(settings.checkpoint)
    fits(checkpoint, settings)  # before an engine is started for nothing
    return checkpoint


def environment(settings: RoleSettings) -> None:
    """What vLLM's engine process reads from its environment; whatever is set already stays.

    No executor process of its own and no pinning: of two cores vLLM would reserve one and pin every role service to the
    other. Idle OpenMP threads must sleep soon, since the roles take turns on the same cores. On CPUs, in eager mode,
    one function would still be compiled, of the log-probabilities that read smoke cases; that needs a C++ compiler.
    """
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR" if settings.log_level != "debug" else "INFO",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    if _on_cpu():
        defaults |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(settings.cpu_threads),
            "KMP_BLOCKTIME": "5",
            "TORCHDYNAMO_DISABLE": "1",
            "LD_PRELOAD": ":".join(_preloads()),
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _settings(program: str) -> RoleSettings:
    try:
        return RoleSettings(_cli_parse_args=True, _cli_prog_name=program)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[0]
        sys.exit(f"{program}: {'.'.join(map(str, first['loc']))}: {first['msg']}")


def _on_cpu() -> bool:
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


def _preloads() -> list[str]:
    found = (directory / name for name in _PRELOAD for directory in _LIBRARY_DIRS)
    return [str(path) for path in found if path.exists()]


def _already_handled(number: int, frame: object) -> None:
    """uvicorn has stopped the server for this signal and raises it again; the process then ends in its own way."""
