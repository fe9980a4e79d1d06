"""Chaos: gateways are killed with SIGKILL at random moments while runs go on; nothing may be lost, stuck or done twice.

Scripted roles and real HTTP tools; a gateway on SQLite that is restarted, then two gateways that share a PostgreSQL.
Every client asks with an Idempotency-Key, reads the stream, plans and answers while they are written, and goes on with
Last-Event-ID when it breaks. Prints a table; exits with 1 when a run is lost, stuck or begun twice, an unsafe call was
sent twice, or a stream had a gap.
"""

import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
from fastapi import Body, FastAPI, Header
from tqdm import tqdm

from benchmarks.clients import Client, Stream
from gateway.events import Event, Observed, Outcome, RunCompleted, ToolOutcome
from gateway.store import LOCAL, RunRow, Store
from tests import postgres
from tests.fakes import Script, call, free_port, plan, serve
from umi.roles import Role, Turn

LEASE = 2.0
PATIENCE = 120.0
"""Seconds after which a run that has not ended is stuck."""


@dataclass
class Sent:
    """What the tools received: how often each call, by its Idempotency-Key."""

    safe: Counter[str] = field(default_factory=Counter[str])
    unsafe: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Result:
    """What one backend went through."""

    title: str
    kills: int = 0
    streams: list[Stream] = field(default_factory=list[Stream])
    logs: dict[str, list[Event]] = field(default_factory=dict[str, list[Event]])
    sent: Sent = field(default_factory=Sent)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Runs that a client was told of and that are not there."""
        return sum(stream.run_id not in self.logs for stream in self.streams)

    @property
    def stuck(self) -> int:
        """Runs that did not end."""
        return sum(not log[-1].is_last for log in self.logs.values())

    @property
    def broken_logs(self) -> int:
        """Logs whose numbers do not count up by one, or that end twice."""
        return sum(
            [event.seq for event in log] != list(range(len(log))) or any(event.is_last for event in log[:-1])
            for log in self.logs.values()
        )

    @property
    def begun_twice(self) -> int:
        """Runs beyond one for each request."""
        return len(self.logs) - len({stream.run_id for stream in self.streams})

    @property
    def broken_streams(self) -> int:
        """Clients that did not see exactly the events of the log, in order."""
        return sum(stream.seen != [event.seq for event in self.logs.get(stream.run_id, [])] for stream in self.streams)

    @property
    def spoiled(self) -> int:
        """Texts whose parts, as a client put them together, were not what the event then said."""
        return sum(stream.spoiled for stream in self.streams)

    @property
    def failed(self) -> int:
        """Runs that ended otherwise than answered."""
        ends = [log[-1].data for log in self.logs.values()]
        return sum(not (isinstance(end, RunCompleted) and end.outcome is Outcome.ANSWERED) for end in ends)

    @property
    def sent_twice(self) -> int:
        """Unsafe calls that reached the tool more than once."""
        return sum(times > 1 for times in self.sent.unsafe.values())

    @property
    def unknown(self) -> int:
        """Unsafe calls in flight at a kill: the planner was told that their outcome is unknown."""
        payloads = (event.data for log in self.logs.values() for event in log)
        return sum(isinstance(told, Observed) and told.outcome is ToolOutcome.UNKNOWN for told in payloads)

    @property
    def is_good(self) -> bool:
        """Whether nothing went wrong."""
        wrong = (self.lost, self.stuck, self.begun_twice, self.broken_logs, self.broken_streams, self.sent_twice)
        return not any((*wrong, self.spoiled, self.failed))


class Gateway:
    """A gateway's process, started again and again on the same port."""

    def __init__(self, database: str, roles: str, log: Path) -> None:
        self._port, self._log = free_port(), log
        self.url = f"http://127.0.0.1:{self._port}"
        urls = {f"UMI_{role.upper()}_URL": roles for role in Role}
        settings = {"UMI_PORT": str(self._port), "UMI_DATABASE": database, "UMI_LEASE_SECONDS": str(LEASE)}
        self._environment = {**os.environ, **urls, **settings}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it serves."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", stdout=log, stderr=log, env=self._environment
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self._process.returncode is None, f"the gateway ended: see {self._log}"
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{self.url}/healthz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()


def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs, at least.")] = 300,
    kills: Annotated[int, typer.Option(min=0, help="Kills of a gateway, at least.")] = 20,
    at_once: Annotated[int, typer.Option(min=1, help="Clients that ask at the same time.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the moments at which is killed.")] = 0,
) -> None:
    """Kill gateways and print what it did."""
    found = postgres.binaries()
    if found is None:
        raise SystemExit("There is no PostgreSQL server here: apt-get install postgresql")
    logs = Path("var/logs")
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="umi-chaos-"))
        server = stack.enter_context(postgres.running(found))
        results = [
            asyncio.run(measure(title, database, count, logs / "chaos.log", runs, kills, at_once, random.Random(seed)))
            for title, database, count in (
                ("SQLite, one gateway", f"sqlite:///{folder}/umi.db", 1),
                ("PostgreSQL, two gateways", server.database(), 2),
            )
        ]
    report(results)
    raise typer.Exit(0 if all(result.is_good for result in results) else 1)


async def measure(
    title: str, database: str, count: int, log: Path, runs: int, kills: int, at_once: int, chance: random.Random
) -> Result:
    """Ask, kill and restart until there were enough of both, then read what the database holds."""
    result = Result(title)
    script = Script(
        calls=[
            call("add", a=2, b=3),
            call("make_note", text="one"),
            call("add", a=5, b=5),
            call("make_note", text="two"),
        ],
        plans=[
            *(plan(Turn.CALLER, f"There is more to do, which is call {number} of four.") for number in range(1, 5)),
            plan(Turn.CONCLUSION, "All four calls have been made, so I can answer."),
        ],
        answer="Both sums are known and both notes are kept.",
        delays=dict.fromkeys(Role, 0.05),
        seconds_per_word=0.005,
    )
    started = time.monotonic()
    with serve(script.app()) as roles, serve(tools(result.sent)) as tool_url:
        gateways = [Gateway(database, roles, log) for _ in range(count)]
        await asyncio.gather(*(gateway.start() for gateway in gateways))
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            body = {"name": "tools", "url": f"{tool_url}/openapi.json", "allow": ["127.0.0.1"]}
            (await http.post(f"{gateways[0].url}/v1/toolsets", json=body)).raise_for_status()
            client = Client(http, [gateway.url for gateway in gateways], chance)
            with tqdm(total=runs, desc=title) as bar:
                killing = asyncio.create_task(kill(gateways, result, chance))

                async def ask() -> None:
                    while not killing.done() and (len(result.streams) < runs or result.kills < kills):
                        result.streams.append(await client.ask(uuid.uuid4().hex, PATIENCE))
                        bar.update()

                await asyncio.gather(*(ask() for _ in range(at_once)))
                if killing.done():
                    killing.result()  # a gateway did not start again: raises
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
        for gateway in gateways:
            with contextlib.suppress(ProcessLookupError):
                await gateway.kill()
    result.seconds = time.monotonic() - started
    async with Store(database) as store:
        result.logs = {row.run_id: await store.runs.events(row.run_id) async for row in every_run(store)}
    return result


async def every_run(store: Store) -> AsyncIterator[RunRow]:
    """All rows, page by page."""
    before = None
    while page := await store.runs.page(LOCAL.tenant, 200, before=before):
        for row in page:
            yield row
        before = page[-1].created_at, page[-1].run_id


async def kill(gateways: list[Gateway], result: Result, chance: random.Random) -> None:
    """One gateway after the other, each at a moment of its own; it is back a little later."""
    while True:
        await asyncio.sleep(chance.uniform(0.2, 2.5))
        gateway = chance.choice(gateways)
        await gateway.kill()
        result.kills += 1
        await asyncio.sleep(chance.uniform(0, 0.5))
        await gateway.start()


def tools(sent: Sent) -> FastAPI:
    """A safe and an unsafe tool that take a moment and remember what they received."""
    app = FastAPI(title="Chaos tools")

    @app.get("/add", operation_id="add", summary="Add two whole numbers")
    async def add(a: int, b: int, idempotency_key: Annotated[str, Header(include_in_schema=False)]) -> dict[str, int]:
        sent.safe[idempotency_key] += 1
        await asyncio.sleep(0.05)
        return {"sum": a + b}

    @app.post("/notes", operation_id="make_note", summary="Keep a note")
    async def note(
        text: Annotated[str, Body(embed=True)], idempotency_key: Annotated[str, Header(include_in_schema=False)]
    ) -> dict[str, str]:
        sent.unsafe[idempotency_key] += 1
        await asyncio.sleep(0.05)
        return {"kept": text}

    return app


def report(results: list[Result]) -> None:
    """The table."""
    rows = {
        "runs": [len(result.logs) for result in results],
        "gateways killed": [result.kills for result in results],
        "streams that broke and were resumed": [sum(s.breaks > 0 for s in result.streams) for result in results],
        "runs lost": [result.lost for result in results],
        "runs stuck": [result.stuck for result in results],
        "requests that began two runs": [result.begun_twice for result in results],
        "runs that ended otherwise than answered": [result.failed for result in results],
        "logs with a gap or two ends": [result.broken_logs for result in results],
        "streams with a gap or a duplicate": [result.broken_streams for result in results],
        "texts read while they were written": [sum(s.texts for s in result.streams) for result in results],
        "texts that broke in the middle": [sum(s.taken_up for s in result.streams) for result in results],
        "texts with a gap or a duplicate": [result.spoiled for result in results],
        "unsafe calls sent": [len(result.sent.unsafe) for result in results],
        "unsafe calls sent twice": [result.sent_twice for result in results],
        "unsafe calls whose outcome is unknown": [result.unknown for result in results],
        "safe calls sent again": [sum(n > 1 for n in result.sent.safe.values()) for result in results],
        "seconds": [round(result.seconds) for result in results],
    }
    print(f"\n| | {' | '.join(result.title for result in results)} |\n| --- |{' --- |' * len(results)}")
    for title, values in rows.items():
        print(f"| {title} | {' | '.join(map(str, values))} |")


if __name__ == "__main__":
    typer.run(main)
