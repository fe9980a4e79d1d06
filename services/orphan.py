"""The engine process of vLLM must not outlive the service that started it, however that ended.

Python's `spawn` begins a child by importing the main module of its parent, long before vLLM waits there for a handshake
that may never come. `watch_children` names this module as that main module.
"""

import os
import sys
import threading
import time
from importlib.util import find_spec

_PARENT = "UMI_PARENT_PID"


def watch_children() -> None:
    """Let every process that multiprocessing spawns from here end within a second of this one, even by `kill -9`."""
    os.environ[_PARENT] = str(os.getpid())
    sys.modules["__main__"].__spec__ = find_spec("services.orphan")


def _end_with_parent() -> None:
    parent = int(os.environ[_PARENT])
    os.environ[_PARENT] = str(os.getpid())  # for children of this child

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="umi-orphan").start()


if __name__ == "__mp_main__":
    _end_with_parent()
