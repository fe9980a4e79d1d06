"""An MCP server as a child process: what it sees, what it may write, and that nothing of it is left behind."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from gateway.egress.secrets import cut
from gateway.mcp.servers import INHERITED, Command
from umi.errors import NoResponse, NotReached, TooLarge

_log = logging.getLogger("umi.gateway.mcp")
_CHILD = Path(__file__).parents[1] / "child.py"
_GRACE = 2.0
_CHUNK, _LINE, _LINES = 65_536, 500, 200
"""Bytes of one read; characters of a line of its standard error in our log, and how many of them in all."""
_WAITING = 64
"""Messages that may wait until the child reads."""


Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


@dataclass
class Allowance:
    """Bytes that the child may still write. `error` says why it was stopped, or that it ended."""

    left: int = 0
    granted: int = 0
    error: NoResponse | None = None

    def grant(self, each: int, answers: int = 1) -> None:
        """So many answers are waited for, each of at most so many bytes. What earlier ones left over is not saved."""
        self.left, self.granted = max(self.left, each * answers), each


@asynccontextmanager
async def running(
    command: Command, env: Mapping[str, str], allowance: Allowance, ended: asyncio.Event
) -> AsyncGenerator[Streams]:
    """The transport to a new child, which is ended on leaving. `ended` is set when it has ended before.

    A parent of its own (gateway/child.py) ends it and whatever it has started, also when the gateway is killed.
    """
    words = (sys.executable, "-I", str(_CHILD), str(os.getpid()), str(_GRACE), *command.words)
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words, stdin=pipe, stdout=pipe, stderr=pipe, env={**inherited, **env}, start_new_session=True
    )
    sent_in, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    said, to_send = anyio.create_memory_object_stream[SessionMessage](_WAITING)
    tasks = [
        asyncio.create_task(_read(process, sent_in, allowance, ended)),
        asyncio.create_task(_write(process, to_send)),
        asyncio.create_task(_complain(process, command, env.values())),
    ]
    try:
        yield heard, said
    finally:
        for stream in (sent_in, heard, said, to_send):
            stream.close()
        await asyncio.shield(asyncio.create_task(_end(process, tasks)))


async def _read(
    process: asyncio.subprocess.Process,
    messages: MemoryObjectSendStream[SessionMessage | Exception],
    allowance: Allowance,
    ended: asyncio.Event,
) -> None:
    """Hand on what the child says, line by line; what is no message is dropped."""
    assert process.stdout is not None
    rest: list[bytes] = []
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        while chunk := await process.stdout.read(_CHUNK):
            allowance.left -= len(chunk)
            if allowance.left < 0:
                allowance.error = TooLarge(allowance.granted, 200)
                break
            *lines, last = chunk.split(b"\n")
            for line in lines:
                await _hand_on(b"".join([*rest, line]), messages)
                rest.clear()
            rest.append(last)
    allowance.error = allowance.error or NotReached("broke off: its process has ended")
    messages.close()
    ended.set()


async def _hand_on(line: bytes, messages: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return
    await messages.send(SessionMessage(message))


async def _write(process: asyncio.subprocess.Process, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError, anyio.ClosedResourceError):
        async for message in messages:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _complain(process: asyncio.subprocess.Process, command: Command, secrets: Iterable[str]) -> None:
    """The child's standard error, as far as it goes into the log: without secrets, and not without end."""
    assert process.stderr is not None
    left, hidden = _LINES, tuple(secrets)
    rest = b""
    while chunk := await process.stderr.read(_CHUNK):
        # Cut before it is shortened, which could leave half of a secret.
        *lines, rest = cut(rest + chunk, hidden).split(b"\n") if left > 0 else [b""]
        rest = rest[-_CHUNK:]
        for line in lines[:left]:
            text = "".join(c if c.isprintable() else " " for c in line.decode("utf-8", "replace")[:_LINE])
            _log.info("%s of %s: %s", command.toolset, command.tenant, text)
        left -= len(lines)


async def _end(process: asyncio.subprocess.Process, tasks: list[asyncio.Task[None]]) -> None:
    """Its standard input ends, then it is told to, then it is made to."""
    assert process.stdin is not None and process.stdout is not None
    reading, writing, complaining = tasks
    reading.cancel()
    writing.cancel()
    await asyncio.gather(reading, writing, return_exceptions=True)
    process.stdin.close()
    draining = asyncio.create_task(_drain(process.stdout))
    for stop, seconds in ((None, 0.5), (signal.SIGTERM, _GRACE + 3), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(TimeoutError, ProcessLookupError):
            if stop is not None:
                (process.terminate if stop is signal.SIGTERM else partial(os.killpg, process.pid, stop))()
            async with asyncio.timeout(seconds):
                await process.wait()
                break
    for task in (draining, complaining):
        task.cancel()
    await asyncio.gather(draining, complaining, return_exceptions=True)


async def _drain(output: asyncio.StreamReader) -> None:
    """What nobody wants to read any more must not keep the child from ending."""
    while await output.read(_CHUNK):
        pass
