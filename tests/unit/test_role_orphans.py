"""A spawned process ends with the service, also when the service is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVICE = """
import multiprocessing, time
from services.orphan import watch_children
if __name__ == "__main__":
    watch_children()
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_spawned_child_does_not_outlive_a_killed_service(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as service:
        assert service.stdout is not None
        child = int(service.stdout.readline())
        time.sleep(0.3)
        service.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
