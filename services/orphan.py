"""The engine process of vLLM must not outlive the service that started it, however that ended."""

import os
import threading
import time

PARENT = "UMI_SERVICE_PID"


def end_with_service() -> None:
    """In a child process: end within a second of the service's end, even by `kill -9`."""
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="umi-orphan").start()
