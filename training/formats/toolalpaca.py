"""ToolAlpaca's evaluation documents: a service's OpenAPI document, instructions, and the golden calls of each.

Golden calls have neither rationales nor observations, and leave values open (`${id from search}`): they are there to be
compared with and none of them is learnt.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from training.formats.shapes import arguments, as_a, loads, objects, take
from training.records import Record
from umi.errors import BadDocument, BadInput
from umi.openapi import Selection, import_document
from umi.roles import Role, Turn
from umi.trajectory import Call, JsonObject, Plan, Step, ToolSpec, Trajectory

EXPECTS = '{"Name", "Documentation", "Instructions", "Golden_Answers": [[{"Action", "Action_Input"}]]}'
_OPEN = re.compile(r'(?<!")\$\{[^{}]*\}"?')  # some have a quote at the end only


def recognises(entry: JsonObject) -> bool:
    """Whether the object has this form's fields."""
    return "Golden_Answers" in entry and "Instructions" in entry


def records(entry: JsonObject, id: str) -> Iterator[Record | BadInput]:
    """A record for each instruction, or why there is none. Raises BadInput for what concerns them all."""
    service = take(entry, "Name", str)
    tools = _tools(take(entry, "Documentation", str))
    questions, answers = take(entry, "Instructions", list), take(entry, "Golden_Answers", list)
    if len(questions) != len(answers):
        raise BadInput(f"{len(questions)} Instructions, but {len(answers)} Golden_Answers", "Golden_Answers")
    if not questions:
        raise BadInput("Instructions: expected at least one", "Instructions")
    for index, question in enumerate(questions):
        try:
            query = as_a(str, question, f"Instructions[{index}]")
            steps = _steps(f"Golden_Answers[{index}]", answers[index])
            yield Record(
                id=f"{id}:{index}",
                source=f"toolalpaca/{service}",
                trajectory=Trajectory(query=query, tools=tools, steps=steps),
                unlearnt=tuple((step, role) for step in range(len(steps)) for role in (Role.CALLER, Role.PLANNER)),
            )
        except BadInput as error:
            yield error


def _steps(where: str, golden: Any) -> tuple[Step, ...]:
    """The golden calls in order, each under an empty plan. Names of no tool (`getDetails`: ask) stay as they are."""
    calls = objects({where: golden}, where)
    return tuple(Step(plan=Plan(rationale="", turn=Turn.CALLER), call=_call(path, call)) for path, call in calls)


def _call(where: str, golden: JsonObject) -> Call:
    text = _OPEN.sub(lambda found: json.dumps(found[0].rstrip('"')), take(golden, "Action_Input", str, where))
    return Call(tool=take(golden, "Action", str, where), arguments=arguments(text, f"{where}.Action_Input"))


def _tools(document: str) -> tuple[ToolSpec, ...]:
    try:
        # The address is never asked: only the operations' names and arguments count.
        # What was recorded with them may use deprecated operations.
        selection = Selection(deprecated=True)
        operations = import_document(loads(document), base_url="http://localhost", selection=selection).usable()
    except (BadDocument, ValueError) as error:
        raise BadInput(f"Documentation: not a usable OpenAPI document: {error}", "Documentation") from error
    return tuple(operation.tool for operation in operations)
