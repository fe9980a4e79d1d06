"""The evaluation command: systems compared on the same test tasks through the running stack.

Every result is written when it is there, so that an evaluation that was cut off can be read, and goes on when it is
started again.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from training.live import Setting, Stack, memory_gib, running
from training.report import file_of, read, table
from training.served import SHIPPED
from training.tasks.task import Kind, Task

TIMED = 15
EVERY_TOOL = 4
"""One in so many tasks is asked again with all tools registered."""


class OtherSubject(Exception):
    """The output folder holds results of other weights or tasks."""


def compare(tasks: Sequence[Task], data: str, at_once: int, folder: Path, systems: Sequence[str]) -> None:
    """Evaluate every system into `<system>.jsonl` (results) and `<system>.json` (facts of the stack); print the table.

    `data` names the tasks. Raises OtherSubject rather than going on with what other weights or tasks began.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for system in systems:
        asyncio.run(_evaluate(system, tasks, f"{SHIPPED[system].weights()} on {data}", at_once, folder))
    text = table(folder)
    (folder / "table.md").write_text(text + "\n", "utf-8")
    print("\n" + text)


async def _evaluate(system: str, tasks: Sequence[Task], subject: str, at_once: int, folder: Path) -> None:
    file = file_of(folder, system)
    earlier = read(file)
    if other := {result.subject for result in earlier} - {subject}:
        raise OtherSubject(f"{file} holds results of {other.pop()}, not of {subject}; move it away or use --output")
    known = {(result.setting, result.id) for result in earlier}
    # Time is measured one query at a time, on tasks whose reference makes two calls.
    two = [task for task in tasks if sum(step.call is not None for step in task.trajectory.steps) == 2][:TIMED]
    plan = [
        (Setting.OFFERED, tasks, at_once),
        (Setting.ALONE, two, 1),
        (Setting.ALL_TOOLS, _answerable(tasks)[::EVERY_TOOL], at_once),
    ]
    with running([*SHIPPED[system].options], file.with_suffix(".log"), subject) as (stack, ready_seconds, process):
        async with stack:
            for setting, asked, gate in plan:
                left = [task for task in asked if (setting, task.id) not in known]
                async for result in stack.ask_all(left, gate, setting, system):
                    with file.open("a", encoding="utf-8") as output:
                        output.write(result.model_dump_json() + "\n")
                facts = await _facts(stack, tasks, ready_seconds, process)  # memory is highest after work
                file.with_suffix(".json").write_text(json.dumps(facts, indent=1), "utf-8")


async def _facts(stack: Stack, tasks: Sequence[Task], ready_seconds: float, process: int) -> dict[str, float]:
    return {
        "ready_seconds": ready_seconds,
        "memory_gib": memory_gib(process),
        "retrieval_recall": await stack.recall([task for task in tasks if task.kind is not Kind.GIVE_UP]),
    }


def _answerable(tasks: Sequence[Task]) -> list[Task]:
    """Those that stay what they are when all tools are offered: an unanswerable one may become answerable."""
    return [task for task in tasks if task.kind is not Kind.GIVE_UP or task.intent == "out_of_scope"]
