"""Live evaluation: test tasks asked of a running gateway, every result checked by code against the true answer."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from tqdm import tqdm

from training.tasks.task import Kind, Task
from umi.openapi import Operation, build_request, read_document
from umi.trajectory import Call

READY_SECONDS = 300


@dataclass
class Result:
    """What became of one task."""

    id: str
    kind: str
    intent: str
    query: str
    passed: bool
    outcome: str
    answer: str | None
    calls: int
    seconds: float
    invented_tools: int = 0
    schema_breaks: int = 0
    tokens: int = 0
    steps: list[str] = field(default_factory=list[str])


class Stack:
    """A running gateway and its example tools, by address."""

    def __init__(self, gateway: str, tools: str) -> None:
        self.gateway, self.tools = gateway, tools
        self._client = httpx.AsyncClient(timeout=700, trust_env=False)
        self._operations: dict[str, Operation] = {}

    async def prepare(self, task: Task) -> None:
        """Bring the tools into the state that the task supposes."""
        if task.setup and not self._operations:
            await self._learn()
        for call in task.setup:
            request = build_request(self._operations[call.tool], call.arguments)
            await self._client.request(request.method, request.url, json=request.json_body)

    async def _learn(self) -> None:
        listed = (await self._client.get(self.tools + "/")).raise_for_status().json()
        for path in listed.values():
            document = (await self._client.get(self.tools + path)).raise_for_status().json()
            self._operations |= {op.tool.name: op for op in read_document(document, self.tools + path)}

    async def ask(self, task: Task, offer_all: bool) -> Result:
        """Ask one task and check what comes back."""
        await self.prepare(task)
        body: dict[str, Any] = {"query": task.trajectory.query, "deadline_seconds": 600}
        if not offer_all:
            body["tools"] = [tool.name for tool in task.trajectory.tools]
        started = time.monotonic()
        reply = await self._client.post(self.gateway + "/v1/queries", json=body)
        seconds = time.monotonic() - started
        run = reply.json()
        if reply.status_code != 200:
            return Result(
                task.id, task.kind, task.intent, task.trajectory.query, False, f"HTTP {reply.status_code}",
                str(run.get("detail")), 0, seconds,
            )  # fmt: skip
        return self._judge(task, run, seconds)

    def _judge(self, task: Task, run: dict[str, Any], seconds: float) -> Result:
        called = [step for step in run["steps"] if step["call"]]
        offered = {tool.name: tool for tool in task.trajectory.tools if tool.name in run["tools"]}
        successful = [Call(**step["call"]) for step in called if (step["response_status"] or 500) < 400]
        breaks = sum(
            not jsonschema.Draft202012Validator(offered[step["call"]["tool"]].parameters).is_valid(
                step["call"]["arguments"]
            )
            for step in called
            if step["call"]["tool"] in offered
        )
        return Result(
            id=task.id,
            kind=task.kind,
            intent=task.intent,
            query=task.trajectory.query,
            passed=task.check.passes(run["outcome"], run["answer"], successful),
            outcome=run["outcome"],
            answer=run["answer"],
            calls=len(called),
            seconds=seconds,
            invented_tools=sum(step["call"]["tool"] not in run["tools"] for step in called),
            schema_breaks=breaks,
            tokens=sum(role["prompt_tokens"] + role["completion_tokens"] for role in run["usage"].values()),
            steps=[f"{step['rationale']} → {step['turn']} {step['call'] or ''}" for step in run["steps"]],
        )

    async def ask_all(self, tasks: Sequence[Task], at_once: int, offer_all: bool, title: str) -> list[Result]:
        """Ask every task, `at_once` at a time."""
        gate = asyncio.Semaphore(at_once)
        with tqdm(total=len(tasks), desc=title) as bar:

            async def one(task: Task) -> Result:
                async with gate:
                    result = await self.ask(task, offer_all)
                bar.update()
                return result

            return list(await asyncio.gather(*(one(task) for task in tasks)))


@contextmanager
def running(checkpoints: list[str], log: Path) -> Iterator[tuple[Stack, float, int]]:
    """`umi up` for as long as the block lasts: the stack, the seconds it took to be ready, and its process id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gateway.cli", "up", *checkpoints]
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            while "Ready." not in log.read_text():
                if process.poll() is not None or time.monotonic() - started > READY_SECONDS:
                    raise RuntimeError(f"umi up did not get ready:\n{log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield Stack("http://127.0.0.1:8000", "http://127.0.0.1:8100"), time.monotonic() - started, process.pid
        finally:
            process.terminate()
            process.wait(30)


def memory_gib(root: int) -> float:
    """Proportional memory (PSS) of a process and all its descendants, in GiB."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    family, grown = {root}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total / 2**20


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Counts and shares over results, overall and per kind of task."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        kinds[result.kind].append(result.passed)
    return {
        "tasks": len(results),
        "success": sum(result.passed for result in results) / len(results),
        "by_kind": {kind.value: [sum(kinds[kind]), len(kinds[kind])] for kind in Kind if kinds[kind]},
        "invented_tools": sum(result.invented_tools for result in results),
        "schema_breaks": sum(result.schema_breaks for result in results),
        "mean_calls": statistics.mean(result.calls for result in results),
        "mean_tokens": statistics.mean(result.tokens for result in results),
    }


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as JSON."""
    return [asdict(result) for result in results]
