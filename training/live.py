"""Live evaluation: test tasks asked of a running gateway, every result checked by code against the true answer."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import httpx
import jsonschema
from pydantic import BaseModel
from tqdm import tqdm

from training.tasks.task import Task
from umi.openapi import Operation, build_request, read_document
from umi.trajectory import Call

READY_SECONDS = 300


class Setting(StrEnum):
    """How tasks are asked."""

    OFFERED = "with the task's tools"
    ALONE = "one at a time"
    ALL_TOOLS = "with all tools registered"


class Result(BaseModel):
    """What became of one task; a line of a result file. `retrieved`: whether it was offered every tool it needs."""

    subject: str
    """The weights and the task file: results of different ones never stand in one table."""
    setting: Setting
    id: str
    kind: str
    intent: str
    query: str
    passed: bool
    outcome: str
    answer: str | None
    calls: int
    seconds: float
    retrieved: bool = True
    invented_tools: int = 0
    schema_breaks: int = 0
    tokens: int = 0
    steps: list[str] = []


class Stack:
    """A running gateway and its example tools, by address; an async context manager that closes its connections."""

    def __init__(self, gateway: str, tools: str, subject: str = "") -> None:
        self.gateway, self.tools, self.subject = gateway, tools, subject
        self._client = httpx.AsyncClient(timeout=700, trust_env=False)
        self._operations: dict[str, Operation] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

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

    async def ask(self, task: Task, setting: Setting) -> Result:
        """Ask one task and check what comes back."""
        await self.prepare(task)
        body: dict[str, Any] = {"query": task.trajectory.query, "deadline_seconds": 600}
        if setting is not Setting.ALL_TOOLS:
            body["tools"] = [tool.name for tool in task.trajectory.tools]
        started = time.monotonic()
        reply = await self._client.post(self.gateway + "/v1/queries", json=body)
        seconds = time.monotonic() - started
        about: dict[str, Any] = {
            "subject": self.subject, "setting": setting, "id": task.id, "kind": task.kind, "intent": task.intent,
            "query": task.trajectory.query, "seconds": seconds,
        }  # fmt: skip
        run = reply.json()
        if reply.status_code != 200:
            outcome = f"HTTP {reply.status_code}"
            return Result(**about, passed=False, outcome=outcome, answer=str(run.get("detail")), calls=0)
        return Result(**about, **self._judged(task, run))

    def _judged(self, task: Task, run: dict[str, Any]) -> dict[str, Any]:
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
        return {
            "passed": task.check.passes(run["outcome"], run["answer"], successful),
            "outcome": run["outcome"],
            "answer": run["answer"],
            "calls": len(called),
            "retrieved": task.needs <= set(run["tools"]),
            "invented_tools": sum(step["call"]["tool"] not in run["tools"] for step in called),
            "schema_breaks": breaks,
            "tokens": sum(role["prompt_tokens"] + role["completion_tokens"] for role in run["usage"].values()),
            "steps": [f"{step['rationale']} → {step['turn']} {step['call'] or ''}" for step in run["steps"]],
        }

    async def ask_all(self, tasks: Sequence[Task], at_once: int, setting: Setting, title: str) -> AsyncIterator[Result]:
        """Ask every task, `at_once` at a time; results come in the order in which they are ready."""
        gate = asyncio.Semaphore(at_once)

        async def one(task: Task) -> Result:
            async with gate:
                return await self.ask(task, setting)

        waiting = [asyncio.ensure_future(one(task)) for task in tasks]
        passed = 0
        with tqdm(asyncio.as_completed(waiting), total=len(tasks), desc=f"{title}, {setting}") as bar:
            for next_one in bar:
                result = await next_one
                passed += result.passed
                bar.set_postfix(passed=passed)
                yield result

    async def recall(self, tasks: Sequence[Task]) -> float:
        """Share of tasks whose needed tools are all among those that the gateway would offer of all registered ones."""
        found = 0
        for task in tasks:
            query = {"query": task.trajectory.query}
            listed = (await self._client.get(self.gateway + "/v1/tools", params=query)).raise_for_status().json()
            found += task.needs <= {tool["name"] for tool in listed}
        return found / len(tasks)


@contextmanager
def running(checkpoints: list[str], log: Path, subject: str) -> Generator[tuple[Stack, float, int]]:
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
            yield (
                Stack("http://127.0.0.1:8000", "http://127.0.0.1:8100", subject),
                time.monotonic() - started,
                process.pid,
            )
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
