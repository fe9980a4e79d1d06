"""UMi's own runs, as GET /v1/runs/{id} shows them.

A run names its tools only; where the documents are wanted too, put them (name, description, parameters) in place of the
names. A run that did not come to an answer or give up is history, nothing of it is learnt.
"""

from collections.abc import Iterator
from typing import Any

from training.formats.chain import Chain
from training.formats.shapes import as_a, objects, take, tool
from training.records import Record
from umi.errors import BadInput
from umi.roles import Role, Turn
from umi.trajectory import JsonObject, ToolSpec

EXPECTS = '{"run_id", "query", "tools", "outcome", "answer", "steps": [{"rationale", "turn", "call", "observation"}]}'
_GOOD = {"answered", "gave_up"}


def recognises(entry: JsonObject) -> bool:
    """Whether the object has this form's fields."""
    return "run_id" in entry and "steps" in entry


def records(entry: JsonObject, id: str) -> Iterator[Record]:
    """The one record of a run. Raises BadInput, also for a run that has not ended."""
    if entry.get("outcome") is None:
        raise BadInput("the run has not ended", "outcome")
    good = take(entry, "outcome", str) in _GOOD
    tools = [_tool(f"tools[{index}]", item) for index, item in enumerate(take(entry, "tools", list))]
    chain = Chain(take(entry, "query", str), tools)
    for where, step in objects(entry, "steps"):
        _step(chain, where, step)
        if not good:
            chain.unlearn(Role.PLANNER, Role.CALLER)
    if entry.get("answer") is not None:
        chain.answer(take(entry, "answer", str))
    yield chain.record(take(entry, "run_id", str), "runs")


def _tool(where: str, item: Any) -> ToolSpec:
    if isinstance(item, str):
        return tool(item, "", {})
    document = as_a(dict, item, where)
    parameters = take(document, "parameters", dict, where)
    properties = as_a(dict, parameters.get("properties", {}), f"{where}.parameters.properties")
    return tool(
        take(document, "name", str, where), take(document, "description", str, where), properties,
        parameters.get("required"),
    )  # fmt: skip


def _step(chain: Chain, where: str, step: JsonObject) -> None:
    turn = take(step, "turn", str, where)
    if turn not in set(Turn):
        raise BadInput(f"{where}.turn: {turn!r} is not a turn", where)
    chain.plan(take(step, "rationale", str, where), Turn(turn))
    if step.get("call") is None:
        return
    call = take(step, "call", dict, where)
    chain.call(take(call, "tool", str, f"{where}.call"), take(call, "arguments", dict, f"{where}.call"))
    if step.get("observation") is not None:
        chain.observe(take(step, "observation", str, where))
    match step.get("tool_outcome"):
        case "rejected":  # the gateway refused to send it
            chain.unlearn(Role.CALLER)
        case "refused":  # a person did: it was the wrong call, or nothing that should have been done
            chain.unlearn(Role.PLANNER, Role.CALLER)
        case _:
            pass
