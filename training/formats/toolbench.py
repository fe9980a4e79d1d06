"""ToolBench: an answer file, whose last training chain counts, or the chain form that α-UMi makes of it.

What counts as plan, call and answer follows α-UMi's preprocessing (X-PLUG/Multi-LLM-Agent, GLPFT/process_data).
"""

import json
from collections.abc import Iterator
from typing import Any

from training.formats.chain import Chain
from training.formats.shapes import arguments, as_a, loads, objects, property_of, take, tool
from training.records import Record
from umi.errors import BadInput
from umi.roles import Turn
from umi.trajectory import JsonObject, ToolSpec

EXPECTS = '{"answer_generation": {"query", "function", "train_messages"}} or {"tools", "instruction", "chains"}'
MAX_NAME = 64
"""Longer tool names keep their end, as in the reference."""
_FINISH = "Finish"


def recognises(entry: JsonObject) -> bool:
    """Whether the object has this form's fields."""
    return "answer_generation" in entry or ("chains" in entry and "instruction" in entry)


def records(entry: JsonObject, id: str) -> Iterator[Record]:
    """The one record of an entry. Raises BadInput."""
    if "chains" in entry:
        query, messages = take(entry, "instruction", str), objects(entry, "chains")
        tools = [documented(where, document) for where, document in objects(entry, "tools")]
    else:
        answer = take(entry, "answer_generation", dict)
        query = take(answer, "query", str, "answer_generation")
        tools = [_function(where, item) for where, item in objects(answer, "function", "answer_generation")]
        tools = [spec for spec in tools if spec.name != _FINISH]
        chains = take(answer, "train_messages", list, "answer_generation")
        if not chains:
            raise BadInput("answer_generation.train_messages: expected at least one chain", "train_messages")
        messages = objects({"train_messages[-1]": chains[-1]}, "train_messages[-1]", "answer_generation")
    chain = Chain(query, tools)
    for where, message in _after_the_question(messages):
        _turn(chain, where, message)
    yield chain.record(id, "toolbench")


def documented(where: str, document: JsonObject) -> ToolSpec:
    """A tool document of α-UMi: `Name`, `function`, and `input` (parameter → "type, description")."""
    properties: JsonObject = {}
    for name, value in take(document, "input", dict, where).items():
        type_name, _, description = as_a(str, value, f"{where}.input.{name}").partition(",")
        properties[name] = property_of(type_name, description.strip())
    return tool(take(document, "Name", str, where)[-MAX_NAME:], take(document, "function", str, where), properties)


def _function(where: str, item: JsonObject) -> ToolSpec:
    name, parameters = take(item, "name", str, where)[-MAX_NAME:], take(item, "parameters", dict, where)
    properties = take(parameters, "properties", dict, f"{where}.parameters")
    description = item.get("description")
    return tool(name, description if isinstance(description, str) else "", properties, parameters.get("required"))


def _after_the_question(messages: list[tuple[str, JsonObject]]) -> list[tuple[str, JsonObject]]:
    """Without the leading system message and the first user message, which repeats the query in ToolBench's frame."""
    rest = messages[1:] if messages and messages[0][1].get("role") == "system" else messages
    return rest[1:] if rest and rest[0][1].get("role") == "user" else rest


def _turn(chain: Chain, where: str, message: JsonObject) -> None:
    match message:
        case {"role": "user", "content": str(text)}:
            chain.user(text)
        case {"role": "function", "name": "Finish"}:
            pass  # says that the answer was taken; not an observation of any tool
        case {"role": "function", "content": str(text)}:
            chain.observe(_response(text))
        case {"role": "assistant", "content": str() | None as text, "function_call": dict(call)}:
            _decision(chain, f"{where}.function_call", text or "", call)
        case {"role": "assistant", "content": str()}:
            chain.remark()
        case _:
            raise BadInput(f"{where}: expected a user, assistant or function message with text as its content", where)


def _decision(chain: Chain, where: str, rationale: str, call: JsonObject) -> None:
    name = take(call, "name", str, where)
    if name != _FINISH:
        chain.plan(rationale, Turn.CALLER)
        chain.call(name[-MAX_NAME:], arguments(call.get("arguments"), f"{where}.arguments"))
        return
    gives_up, answer = _finish(call.get("arguments"), f"{where}.arguments")
    chain.plan(rationale, Turn.GIVE_UP if gives_up else Turn.CONCLUSION)
    if answer is not None:
        chain.answer(answer)


def _finish(value: Any, where: str) -> tuple[bool, str | None]:
    """Whether a Finish gives up, and its answer. Long answers are often cut off, thus no JSON: their text is kept."""
    text = value if isinstance(value, str) else ""
    try:
        found = arguments(value, where)
    except BadInput:
        _, marker, rest = text.partition('"final_answer": ')
        if "give_up_and_restart" in text:
            return True, None
        if not marker:
            raise
        return False, rest.strip().strip("}").strip('"')
    if found.get("return_type") == "give_up_and_restart":
        return True, None
    if found.get("return_type") != "give_answer" and "final_answer" not in found:
        raise BadInput(f'{where}: expected a "return_type" of give_answer or give_up_and_restart', where)
    answer = found.get("final_answer")
    return False, answer if isinstance(answer, str) else None


def _response(content: str) -> str:
    """The `response` of what a tool returned. Long contents are cut off, thus no JSON: what follows the key is kept."""
    try:
        found = loads(content)
    except ValueError:
        return content.partition('"response":')[2]
    response = found.get("response", "") if isinstance(found, dict) else ""
    return response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
