"""One JSON a line: `tools`, `query`, `steps` of thought, action, args and observation, then `answer`.

API-Bank, FireAct and Glaive come in this form. Tools are JSON (one text or a list of texts) or ReAct signatures
(`search[query]`). Thoughts may be empty: then nothing tells the planner's turn, which stays in the history unlearnt.
"""

import re
from collections.abc import Iterator
from typing import Any

from training.formats.chain import Chain
from training.formats.shapes import arguments, as_a, loads, objects, property_of, take, tool
from training.records import Record
from umi.errors import BadInput
from umi.roles import Role, Turn
from umi.trajectory import JsonObject, ToolSpec

EXPECTS = '{"tools", "query", "steps": [{"thought", "action", "args", "observation"}], "answer"}'
_SIGNATURE = re.compile(r"(?P<name>[\w.-]+)\[(?P<argument>\w+)\]")
_PAIRS = re.compile(r"\w+=[^=]*(, \w+=[^=]*)*")


def recognises(entry: JsonObject) -> bool:
    """Whether the object has this form's fields. A run of UMi has `steps` and `query` too, but a `run_id`."""
    return "steps" in entry and "query" in entry and "run_id" not in entry


def records(entry: JsonObject, id: str) -> Iterator[Record]:
    """The one record of an entry. Raises BadInput."""
    tools = [_tool(f"tools[{index}]", item) for index, item in enumerate(_listed(entry.get("tools")))]
    chain = Chain(take(entry, "query", str), [spec for spec in tools if spec.name.lower() != "finish"])
    for where, step in objects(entry, "steps"):
        _plan(chain, take(step, "thought", str, where), Turn.CALLER)
        chain.call(take(step, "action", str, where), _arguments(step.get("args"), f"{where}.args"))
        chain.observe(take(step, "observation", str, where))
    _plan(chain, "", Turn.CONCLUSION)
    chain.answer(take(entry, "answer", str))
    source, number = entry.get("source", "steps"), entry.get("id", id)
    yield chain.record(f"{as_a(str, source, 'source')}:{number}", source)


def _plan(chain: Chain, thought: str, turn: Turn) -> None:
    chain.plan(thought, turn)
    if not thought.strip():
        chain.unlearn(Role.PLANNER)


def _listed(tools: Any) -> list[Any]:
    return as_a(list, _parsed("tools", tools) if isinstance(tools, str) else tools, "tools")


def _parsed(where: str, text: str) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        raise BadInput(f"{where}: not JSON: {error}", where) from error


def _tool(where: str, item: Any) -> ToolSpec:
    if isinstance(item, str) and (found := _SIGNATURE.fullmatch(item)):
        return tool(found["name"], "", {found["argument"]: {"type": "string"}}, [found["argument"]])
    document = as_a(dict, _parsed(where, item) if isinstance(item, str) else item, where)
    name = take(document, "apiCode" if "apiCode" in document else "name", str, where)
    parameters = as_a(dict, document.get("parameters", {}), f"{where}.parameters")
    if "properties" in parameters:  # JSON Schema already
        properties = take(parameters, "properties", dict, f"{where}.parameters")
        return tool(name, take(document, "description", str, where), properties, parameters.get("required"))
    properties = {key: _property(f"{where}.parameters.{key}", value) for key, value in parameters.items()}
    return tool(name, take(document, "description", str, where), properties, list(properties))


def _property(where: str, value: Any) -> JsonObject:
    schema = as_a(dict, value, where)
    return property_of(take(schema, "type", str, where), str(schema.get("description", "")))


def _arguments(value: Any, where: str) -> JsonObject:
    """Arguments as an object; API-Bank's unquoted `city=Rome, day=Monday` are read as texts."""
    if isinstance(value, str) and _PAIRS.fullmatch(value):
        return dict(pair.split("=", 1) for pair in re.split(r", (?=\w+=)", value))
    return arguments(value, where)
