"""Static evaluation as in the paper: every annotated step is predicted anew from the annotated history.

The planner reads the history; when it calls, the caller reads its plan, when it concludes, the summarizer does. The
running role services are asked, many steps at once, so vLLM batches them; their decoding is constrained as in
production, which makes an invented tool impossible.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from tqdm import tqdm

from training.metrics import Output, StepScore, score_step
from training.records import Record
from umi.roles import Role, Turn
from umi.trajectory import Frozen, JsonObject, Step, Trajectory
from umi.wire import ROLE_PATHS, CallReply, PlanReply, RoleReply, RoleRequest, SummaryReply, Usage

_PATIENCE = 120
"""How often a role with a full queue is asked again."""
Reply = TypeVar("Reply", bound=RoleReply)


class StepResult(Frozen):
    """What was predicted for one step of one record, and how it scores; a line of a result file."""

    subject: str
    id: str
    source: str
    step: int
    score: StepScore
    turn: Turn | None
    tool: str | None = None
    arguments: JsonObject | None = None
    answer: str | None = None
    failure: str | None = None
    """Why a role gave nothing usable; scored as wrong."""
    shortened: bool = False
    """Whether a role had to shorten the history to read the rest."""
    tokens: int = 0


class _Failed(Exception):
    """A role's error response."""


@dataclass
class _Spent:
    """What the roles' turns of one step cost."""

    tokens: int = 0
    shortened: bool = False

    def add(self, usage: Usage) -> None:
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.shortened |= usage.shortened_observations + usage.dropped_steps > 0


class RoleServices:
    """The three running role services, by address; an async context manager."""

    def __init__(self, urls: Mapping[Role, str], at_once: int) -> None:
        self._urls, self._gate = urls, asyncio.Semaphore(at_once)
        self._client = httpx.AsyncClient(timeout=600, trust_env=False)

    async def __aenter__(self) -> "RoleServices":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def predict_all(
        self, records: Sequence[Record], subject: str, known: set[tuple[str, int]]
    ) -> AsyncIterator[StepResult]:
        """Every step that may be learnt and is not `known`, in the order in which results are ready."""
        by_id = {record.id: record for record in records}
        steps = [step for step in learnt_steps(records) if step not in known]
        waiting = [asyncio.ensure_future(self._gated(by_id[name], index, subject)) for name, index in steps]
        with tqdm(asyncio.as_completed(waiting), total=len(steps), desc="steps") as bar:
            for next_one in bar:
                yield await next_one

    async def _gated(self, record: Record, index: int, subject: str) -> StepResult:
        async with self._gate:
            return await self.predict(record, index, subject)

    async def predict(self, record: Record, index: int, subject: str) -> StepResult:
        """One step from the annotated history before it."""
        before = record.trajectory.model_copy(update={"steps": record.trajectory.steps[:index]})
        run_id, spent, failure = f"static-{index}-{hashlib.sha256(record.id.encode()).hexdigest()[:32]}", _Spent(), None
        prediction = Output(turn=None)
        try:
            plan = (await self._ask(Role.PLANNER, PlanReply, run_id, before, spent)).plan
            prediction = Output(turn=plan.turn)
            planned = before.append(Step(plan=plan))
            if plan.turn is Turn.CALLER:
                call = (await self._ask(Role.CALLER, CallReply, run_id, planned, spent)).call
                prediction = Output(turn=Turn.CALLER, tool=call.tool, arguments=call.arguments)
            elif plan.turn is Turn.CONCLUSION:
                answer = (await self._ask(Role.SUMMARIZER, SummaryReply, run_id, planned, spent)).answer
                prediction = Output(turn=Turn.CONCLUSION, answer=answer)
        except _Failed as error:
            failure = str(error)
        names = {tool.name for tool in record.trajectory.tools}
        return StepResult(
            subject=subject,
            id=record.id,
            source=record.source,
            step=index,
            score=score_step(names, reference(record, index), prediction),
            turn=prediction.turn,
            tool=prediction.tool,
            arguments=prediction.arguments if isinstance(prediction.arguments, dict) else None,
            answer=prediction.answer,
            failure=failure,
            shortened=spent.shortened,
            tokens=spent.tokens,
        )

    async def _ask(self, role: Role, kind: type[Reply], run_id: str, trajectory: Trajectory, spent: _Spent) -> Reply:
        body = RoleRequest(run_id=run_id, trajectory=trajectory).model_dump_json()
        headers = {"content-type": "application/json"}
        for _ in range(_PATIENCE):
            response = await self._client.post(self._urls[role] + ROLE_PATHS[role], content=body, headers=headers)
            if response.status_code != 503:  # a full queue
                break
            await asyncio.sleep(float(response.headers.get("retry-after", "1")))
        if response.status_code != 200:  # pyright: ignore[reportPossiblyUnboundVariable]
            raise _Failed(f"{role}: {response.status_code}: {response.text[:200]}")
        reply = kind.model_validate_json(response.content)
        spent.add(reply.usage)
        return reply


def learnt_steps(records: Iterable[Record]) -> Iterator[tuple[str, int]]:
    """Id and number of every step that is predicted: those that a planner may learn."""
    for record in records:
        for index in range(len(record.trajectory.steps)):
            if record.learns(index, Role.PLANNER):
                yield record.id, index


def reference(record: Record, index: int) -> Output:
    """What the annotation says of a step."""
    step = record.trajectory.steps[index]
    if step.call is not None:
        return Output(turn=Turn.CALLER, tool=step.call.tool, arguments=step.call.arguments)
    answer = record.answer if step.plan.turn is Turn.CONCLUSION else None
    return Output(turn=step.plan.turn, answer=answer)
