"""Runs one command and leaves nothing of it behind: python -I child.py PARENT_PID GRACE COMMAND…

Ends the command, and whatever it started, when told to (SIGTERM), when the parent process is gone (even by SIGKILL),
or when the command itself ends. Uses the standard library only, so that it starts fast. On Linux also processes that
left the process group are found; elsewhere the group is all that is known.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

_PDEATHSIG, _SUBREAPER = 1, 36
_LINUX = sys.platform == "linux"


def main() -> None:
    """Run the command; exits with its status, 128 + n when a signal ended it."""
    parent, grace, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: told.append(received))
    _prctl(_SUBREAPER, 1)
    _prctl(_PDEATHSIG, signal.SIGTERM)
    try:
        child = subprocess.Popen(command, preexec_fn=lambda: _prctl(_PDEATHSIG, signal.SIGKILL))  # safe: one thread
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)
    status: int | None = None
    while status is None and not told and os.getppid() == parent:
        time.sleep(0.05)
        status = _reap(child.pid)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        status = _wait(child.pid, grace)
    if status is None:
        child.kill()
    _finish_rest(2.0)
    os._exit(status if status is not None else 128 + signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _reap(main: int) -> int | None:
    """Collect whatever has ended; the status of the process `main` if it is among it."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == main:
                code = os.waitstatus_to_exitcode(status)
                found = code if code >= 0 else 128 - code
    return found


def _wait(main: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    status = _reap(main)
    while status is None and time.monotonic() < end:
        time.sleep(0.02)
        status = _reap(main)
    return status


def _finish_rest(grace: float) -> None:
    """End what the command left behind: politely, then not."""
    _signal_all(signal.SIGTERM)
    end = time.monotonic() + grace
    while _descendants() and time.monotonic() < end:
        time.sleep(0.02)
        _reap(0)
    if not _LINUX:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while rest := _descendants():
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        _reap(0)


def _signal_all(number: int) -> None:
    if not _LINUX:
        os.killpg(0, number)
        return
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants() -> list[int]:
    """All living processes below this one; orphans come to it because it is their reaper."""
    if not _LINUX:
        return []
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    pending = [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


if __name__ == "__main__":
    main()
