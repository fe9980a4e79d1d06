"""The same question in the forms of others, for tests of reading them."""

import json
from typing import Any

from training.formats import Form, Reading
from umi.trajectory import JsonObject

AGAIN = "You tried this before; do otherwise."


def message(rationale: str | None, name: str, arguments: Any) -> JsonObject:
    """An assistant's message of ToolBench."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"role": "assistant", "content": rationale, "function_call": {"name": name, "arguments": text}}


def function(content: str) -> JsonObject:
    return {"role": "function", "name": "tide", "content": content}


DOCUMENT = {"Name": "tide", "function": "Tide times.", "input": {"port": "STRING, where", "day": "moon day, when"}}


CHAIN: JsonObject = {
    "tools": [DOCUMENT],
    "instruction": "High tide in Brest?",
    "chains": [
        {"role": "system", "content": "You may use tools."},
        {"role": "user", "content": "\nHigh tide in Brest?\nBegin!\n"},
        {"role": "assistant", "content": "Let me think."},
        message("I ask for the tide.", "tide", {"port": "Brest"}),
        function('{"error": "", "response": "{\'high\': \'6:10\'}"}'),
        {"role": "user", "content": AGAIN},
        message("It is known.\n", "Finish", {"return_type": "give_answer", "final_answer": "At 6:10."}),
    ],
}


SCHEMA = {
    "type": "object",
    "properties": {"port": {"type": "string", "description": "where"}},
    "required": ["port", "gone"],
}


ANSWER: JsonObject = {
    "answer_generation": {
        "query": "High tide in Brest?",
        "function": [{"name": "x" * 10 + "tide" * 16, "parameters": SCHEMA}, {"name": "Finish", "parameters": SCHEMA}],
        "train_messages": [[message("No.", "tide", {})], CHAIN["chains"]],
    }
}


CONVERSATION: JsonObject = {
    "tools": [DOCUMENT],
    "instruction": "High tide in Brest?",
    "conversations": [
        {"from": "user", "value": "High tide in Brest?"},
        {"from": "assistant", "value": "Let me think.\n"},
        {"from": "assistant", "value": "I ask for the tide.\n Next: caller."},
        {"from": "caller", "value": 'Action: tide\nAction Input: {\n  "port": "Brest"\n}'},
        {"from": "observation", "value": "{'high': '6:10'}"},
        {"from": "user", "value": AGAIN},
        {"from": "assistant", "value": "It is known.\n\n Next: conclusion."},
        {"from": "conclusion", "value": "At 6:10."},
    ],
}


SERVICE = {
    "openapi": "3.0.0",
    "paths": {"/tide": {"get": {"operationId": "tide", "parameters": [{"name": "port", "in": "query"}]}}},
}


ALPACA: JsonObject = {
    "Name": "Sea",
    "Documentation": json.dumps(SERVICE),
    "Instructions": ["High tide in Brest?", "And where I am?"],
    "Golden_Answers": [
        [{"Action": "tide", "Action_Input": '{"port": "Brest"}'}],
        [
            {"Action": "getDetails", "Action_Input": '{"question": "Where are you?"}'},
            {"Action": "tide", "Action_Input": '{"port": ${port from getDetails}, "deep": ${a depth}"}'},
        ],
    ],
}


LINE: JsonObject = {
    "source": "sea",
    "id": 4,
    "tools": [
        '{"apiCode": "tide", "description": "Tide times.", "parameters": {"port": {"type": "str"}}}',
        "finish[x]",
    ],
    "query": "High tide in Brest?",
    "steps": [
        {"thought": "I ask.", "action": "tide", "args": {"port": "Brest"}, "observation": "6:10"},
        {"thought": "", "action": "tide", "args": "port=Brest, day=first, at noon", "observation": "18:30"},
    ],
    "answer": "At 6:10.",
}


RUN: JsonObject = {
    "run_id": "r1",
    "query": "High tide in Brest?",
    "tools": ["tide"],
    "outcome": "answered",
    "answer": "At 6:10.",
    "steps": [
        {
            "rationale": "I ask.",
            "turn": "caller",
            "call": {"tool": "tied", "arguments": {}},
            "observation": "Not sent.",
            "tool_outcome": "rejected",
        },
        {
            "rationale": "I ask again.",
            "turn": "caller",
            "call": {"tool": "tide", "arguments": {}},
            "observation": "6:10",
            "tool_outcome": "ok",
        },
        {"rationale": "Known.", "turn": "conclusion", "call": None, "observation": None, "tool_outcome": None},
    ],
}


SAMPLES = {
    Form.TOOLBENCH: CHAIN,
    Form.ALPHA_UMI: CONVERSATION,
    Form.TOOLALPACA: ALPACA,
    Form.STEPS: LINE,
    Form.RUNS: RUN,
}


def with_chain(*messages: JsonObject) -> JsonObject:
    """ToolBench's sample with other turns after the question."""
    return CHAIN | {"chains": [*CHAIN["chains"][:2], *messages]}


def reasons(reading: Reading) -> list[str]:
    """Where and why entries could not be read."""
    return [f"{item.place}: {item.reason}" for item in reading.report.malformed]
