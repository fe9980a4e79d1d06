"""The outside world as outgoing requests meet it: loopback servers that answer raw bytes, and a DNS with a script."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp.abc import AbstractResolver, ResolveResult

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes = b"ok", status: int = 200, **headers: str) -> bytes:
    """A whole response; an underscore in a header's name stands for `-`."""
    given = {"content-type": "text/plain", "content-length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(*pieces: bytes, seconds: float = 0.0) -> Behaviour:
    """Writes each piece, with a pause after it."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return behave


def for_ever(start: bytes, piece: bytes, seconds: float = 0.0) -> Behaviour:
    """Writes `start`, then `piece` again and again."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return behave


@dataclass
class Server:
    """Listens on `host`; `requests` are the heads and bodies it received, answered by `behaviours` in turn."""

    behaviours: list[Behaviour]
    host: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length")), "0"
                )
                self.requests.append((head, await reader.readexactly(int(length))))
                await self.behaviours[min(len(self.requests), len(self.behaviours)) - 1](writer)
        writer.close()


@asynccontextmanager
async def outside(*behaviours: Behaviour, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[Server]:
    """A server that answers its requests with `behaviours` in turn, the last one for ever; "ok" when there is none."""
    server = Server(list(behaviours) or [says(response())], host)
    listening = await asyncio.start_server(server.answer, host, port)
    server.port = int(listening.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listening.close()


class Names(AbstractResolver):
    """A DNS that knows what a test tells it: name to the answers of one look-up after another, the last one stays.

    Anything else is asked of the system, as production does; `asked` lists the names.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): found for name, found in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if (answers := self._answers.get(host.rstrip("."))) is None:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return [_result(host, str(entry[4][0]), port) for entry in found]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        pass


def _result(name: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=name, host=address, port=port, family=family, proto=6, flags=flags)
