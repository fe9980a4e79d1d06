"""Running programs against the real example services, and writing down what a good agent would have said."""

import json
import re
from dataclasses import dataclass, replace

from fastapi.testclient import TestClient

from examples.tools.server import create_app, create_services
from training.tasks.programs import Ask, Found, Json, Notes, NotTold, Program
from umi.observation import observe
from umi.openapi import Operation, build_request, read_document
from umi.roles import Turn
from umi.trajectory import Call, Plan, Step

_SUGGESTION = re.compile(r"No [\w ]+ named '(?P<wrong>.*)'\. Did you mean '(?P<right>.*)'\?")
TOOL_MENTION = r"\buse (\w+)\.$"
"""How rationales name the tool they want, for the manifest of a planner that has learnt from these tasks."""
_BASE = "http://tools"


class Tools:
    """The example services in this process: their operations, and a way to call them. Their state starts empty."""

    def __init__(self) -> None:
        self.reset()
        self.operations: dict[str, Operation] = {}
        self.service_of: dict[str, str] = {}
        for service, path in self._client.get("/").json().items():
            for operation in read_document(self._client.get(path).json(), _BASE + path):
                self.operations[operation.tool.name] = operation
                self.service_of[operation.tool.name] = service

    def reset(self) -> None:
        """Services anew: no todos, only the bookings they start with."""
        self._client = TestClient(create_app(create_services()), base_url=_BASE)

    def call(self, tool: str, arguments: Json) -> tuple[int, bytes, str]:
        """Status, body and observation of a real call."""
        request = build_request(self.operations[tool], arguments)
        reply = self._client.request(request.method, request.url, headers=request.headers, json=request.json_body)
        return (
            reply.status_code,
            reply.content,
            observe(reply.status_code, reply.headers["content-type"], reply.content),
        )


@dataclass(frozen=True)
class Story:
    """What running a program gave: its steps (the last one without a call) and its result, None when it gave up."""

    steps: tuple[Step, ...]
    found: Found | None
    corrected: bool


def tell(program: Program, notes: Notes, tools: Tools, offered: set[str]) -> Story:
    """Drive a program to its end.

    An ask for a tool that is not offered ends in giving up. An error with a suggestion is followed by the corrected
    call; other errors go to programs that expect them, as `{"error": text}`, or end in giving up.
    """
    return _Teller(notes, tools, offered).tell(program)


class _Teller:
    """One telling: the steps so far, and the names that tools have corrected."""

    def __init__(self, notes: Notes, tools: Tools, offered: set[str]) -> None:
        self._notes, self._tools, self._offered = notes, tools, offered
        self._steps: list[Step] = []
        self._renamed: dict[str, str] = {}

    def tell(self, program: Program) -> Story:
        refused = False
        try:
            ask = next(program)
            while True:
                if ask.tool not in self._offered:
                    need = self._rename(ask.need)
                    return self._story(_wanting(need, "no tool is offered"))
                reply = self._ask(ask)
                if reply is None:
                    return self._story("This cannot be answered.")
                refused |= "error" in reply
                ask = program.send(reply)
        except NotTold:
            return self._story("The tool does not tell this.")
        except StopIteration as stop:
            found: Found = replace(stop.value, answer=self._rename(stop.value.answer))
            last = Step(plan=Plan(rationale=self._flush(), turn=Turn.CONCLUSION))
            return Story((*self._steps, last), found, refused or bool(self._renamed))

    def _story(self, ending: str) -> Story:
        last = Step(plan=Plan(rationale=self._flush(ending), turn=Turn.GIVE_UP))
        return Story((*self._steps, last), None, bool(self._renamed))

    def _ask(self, ask: Ask) -> Json | None:
        """Make the call of an ask, again when the tool suggests a name; the tool's JSON, None when there is none."""
        status, body, observation = self._step(ask)
        if status == 404 and (match := _SUGGESTION.search(observation)):
            wrong, right = match["wrong"], match["right"]
            self._notes.append(f"The tool does not know '{wrong}' and suggests '{right}'.")
            status, body, observation = self._step(ask, {wrong: right})
            self._renamed[wrong] = right
        if status < 400:
            return json.loads(body)
        if "Free rooms: " in observation:
            return {"error": observation}
        self._notes.append(f"The tool says: {observation.partition(': ')[2]}")
        return None

    def _step(self, ask: Ask, correction: dict[str, str] | None = None) -> tuple[int, bytes, str]:
        names = self._renamed | (correction or {})
        need = ask.need
        for wrong, right in names.items():
            need = need.replace(wrong, right)
        rationale = self._flush(_wanting(need, f"use {ask.tool}"))
        given = {
            key: names.get(value, value) if isinstance(value, str) else value for key, value in ask.arguments.items()
        }
        arguments = _in_schema_order(given, self._tools.operations[ask.tool])
        status, body, observation = self._tools.call(ask.tool, arguments)
        plan = Plan(rationale=rationale, turn=Turn.CALLER)
        self._steps.append(Step(plan=plan, call=Call(tool=ask.tool, arguments=arguments), observation=observation))
        return status, body, observation

    def _rename(self, text: str) -> str:
        for wrong, right in self._renamed.items():
            text = text.replace(wrong, right)
        return text

    def _flush(self, *ending: str) -> str:
        """Everything noted since the last rationale, each once, and the ending."""
        fresh = dict.fromkeys(map(self._rename, self._notes))
        self._notes.clear()
        return " ".join([*fresh, *ending])


def _wanting(need: str, means: str) -> str:
    """What is to be found first and by which means after it: whether there is a tool is easier to say then."""
    return f"To find {need}, {means}.".replace("To find a way to ", "To ")


def _in_schema_order(arguments: Json, operation: Operation) -> Json:
    """Constrained decoding writes arguments in the order of the schema, so the targets do too."""
    return {name: arguments[name] for name in operation.tool.parameters["properties"] if name in arguments}
