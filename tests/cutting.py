"""A network that breaks: a proxy on loopback that ends connections in the middle."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Cutter:
    """Passes bytes to and from `target`, and cuts a connection after `allow` bytes of the answer (None: never).

    `connections` counts what was opened.
    """

    target: str
    allow: int | None = None
    connections: int = 0

    def serve(self, front: socket.socket) -> None:
        """One connection."""
        self.connections += 1
        where = urlsplit(self.target)
        with front, contextlib.suppress(OSError), socket.create_connection((where.hostname, where.port)) as back:
            asking = threading.Thread(target=_pump, args=(front, back, None), daemon=True)
            asking.start()
            _pump(back, front, self.allow)
            asking.join(10)


def _pump(source: socket.socket, sink: socket.socket, allow: int | None) -> None:
    with contextlib.suppress(OSError):
        while (allow is None or allow > 0) and (piece := source.recv(65536)):
            if allow is not None:
                piece = piece[:allow]
                allow -= len(piece)
            sink.sendall(piece)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting(target: str, allow: int | None = None) -> Iterator[tuple[Cutter, str]]:
    """A proxy before `target`, and its URL."""
    cutter, threads = Cutter(target, allow), list[threading.Thread]()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    front, _ = listening.accept()
                    threads.append(threading.Thread(target=cutter.serve, args=(front,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield cutter, f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(10)
