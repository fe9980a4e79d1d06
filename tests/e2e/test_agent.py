"""The whole agent as `umi up` starts it: three vLLM services, the shipped adapters, the gateway, the example tools."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes import free_port, free_ports
from umi.manifest import Checkpoint
from umi.registry import Registry
from umi.release import Action, Change, Release, first, released
from umi.roles import Role
from umi.wire import Replica

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 240  # three minutes are promised on an idle machine

PLACES = ["country_facts", "city_distance"]

pytestmark = pytest.mark.timeout(600)


BY = Change(action=Action.RELEASE, who="test")


@dataclass(frozen=True)
class Agent:
    """A running agent: its gateway, the registry that its roles follow, and where the roles are."""

    gateway: httpx.Client
    registry: Registry
    role_port: int

    def replica(self, role: Role) -> Replica:
        """What the role's service says of the weights it serves."""
        url = f"http://127.0.0.1:{self.role_port + list(Role).index(role)}/v1/replica"
        return Replica.model_validate_json(httpx.get(url, trust_env=False).content)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder = tmp_path_factory.mktemp("agent")
    registry = Registry(folder / "registry")
    for role in Role:
        version = registry.add(ROOT / "checkpoints" / role, role).manifest.version
        registry.change(role, lambda _, role=role, version=version: first(role, version, BY))
    port, role_port, tools_port = free_port(), free_ports(3), free_port()
    ports = ["--port", str(port), "--role-port", str(role_port), "--tools-port", str(tools_port)]
    ports += ["--registry", registry.place]
    log = folder / "up.log"
    environment = {**os.environ, "UMI_DTYPE": "float32", "UMI_DATABASE": f"sqlite:///{folder}/runs.db"}
    with log.open("w") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", *ports, "--logs", str(folder)],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            started = time.monotonic()
            while "Ready." not in log.read_text():
                assert up.poll() is None, log.read_text()
                assert time.monotonic() - started < READY_SECONDS, log.read_text()
                time.sleep(0.5)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=180, trust_env=False) as client:
                yield Agent(client, registry, role_port)
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(30) == 0


@pytest.fixture
def gateway(agent: Agent) -> httpx.Client:
    return agent.gateway


def ask(gateway: httpx.Client, query: str, **more: Any) -> dict[str, Any]:
    reply = gateway.post("/v1/queries", json={"query": query, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def calls(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(step["call"]["tool"], step["call"]["arguments"]) for step in run["steps"] if step["call"]]


def test_a_question_is_answered_with_two_dependent_tool_calls(gateway: httpx.Client) -> None:
    tools = ["language_facts", "nearest_city", "element_facts", "element_by_number", "molar_mass"]
    run = ask(gateway, "How dense is the element that has 79 protons I need it for a report.", tools=tools)
    assert [tool for tool, _ in calls(run)] == ["element_by_number", "element_facts"]
    first, second, last = run["steps"]
    assert first["response_status"] == 200 and json.loads(first["observation"])["name"].lower() == "gold"
    assert str(json.loads(second["observation"])["density"]) in run["answer"]
    assert last["usage"]["planner"]["cached_tokens"] > 0, "a later step reads its history from the prefix cache"


def test_every_role_took_its_turn_and_says_with_which_weights(gateway: httpx.Client) -> None:
    run = ask(gateway, "What is the population of Lyon?", tools=["city_facts", "calculate", "weekday"])
    assert str(json.loads(run["steps"][0]["observation"])["population"]) in run["answer"]
    shipped = {role: Checkpoint.open(ROOT / "checkpoints" / role).manifest.version for role in Role}
    assert run["steps"][0]["versions"] == {role: shipped[role] for role in (Role.PLANNER, Role.CALLER)}
    assert run["summarizer_version"] == shipped[Role.SUMMARIZER]
    assert all(run["usage"][role]["completion_tokens"] > 0 for role in ("planner", "caller", "summarizer"))


def test_the_planner_gives_up_when_no_offered_tool_can_help(gateway: httpx.Client) -> None:
    run = ask(gateway, "Tell me a joke.", tools=["weekday", "prime_factors", "add_todo"])
    assert run["outcome"] == "gave_up" and run["answer"] is None and calls(run) == []


def test_a_call_that_changes_state_really_changes_it(gateway: httpx.Client) -> None:
    tools = ["language_facts", "airports_of_city", "holiday_on", "free_rooms", "book_room", "cancel_booking"]
    run = ask(gateway, "Write Tomas down for the Dune meeting room, 10 October 2023, 9am, please.", tools=tools)
    tool, arguments = calls(run)[-1]
    assert (tool, arguments["room"], arguments["date"]) == ("book_room", "Dune", "2023-10-10")
    booked = run["steps"][len(calls(run)) - 1]
    assert booked["response_status"] < 300 and "booking_id" in booked["observation"]


def test_plans_and_the_answer_can_be_read_while_they_are_written(gateway: httpx.Client) -> None:
    body = {"query": "What is the population of Lyon?", "tools": ["city_facts", "calculate"], "stream": True}
    parts, texts, whole = dict[int, int](), dict[int, str](), dict[int, str | None]()
    with gateway.stream("POST", "/v1/queries", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                number, data = event["seq"], event["data"]
                if event["type"].endswith(".delta"):
                    texts[number] = texts.get(number, "")[: data["offset"]] + data["text"]
                    parts[number] = parts.get(number, 0) + 1
                elif event["type"] in {"plan", "run.completed"}:
                    whole[number] = data["plan"]["rationale"] if "plan" in data else data["answer"]
    assert texts == whole
    assert min(parts.values()) > 3


def test_the_planner_is_swapped_while_a_run_goes_on_and_the_run_keeps_its_weights(agent: Agent) -> None:
    shipped = Checkpoint.open(ROOT / "checkpoints" / "planner").manifest.version
    other = agent.registry.add(ROOT / "checkpoints" / "global", Role.PLANNER).manifest.version

    def release(before: Release | None) -> Release:
        assert before is not None
        return released(before, other, BY)

    body = {"query": "How far is the capital of Japan from Madrid?", "tools": PLACES, "background": True}
    begun = agent.gateway.post("/v1/queries", json=body).json()["run_id"]
    while not agent.gateway.get(f"/v1/runs/{begun}").json()["steps"]:
        time.sleep(0.1)
    agent.registry.change(Role.PLANNER, release)
    while (planner := agent.replica(Role.PLANNER)).generation != 2:
        assert planner.problem is None
        time.sleep(0.1)
    while (run := agent.gateway.get(f"/v1/runs/{begun}").json())["outcome"] is None:
        time.sleep(0.2)
    assert {step["versions"]["planner"] for step in run["steps"]} == {shipped}
    after = ask(agent.gateway, "What is the population of Lyon?", tools=["city_facts", "calculate", "weekday"])
    assert {step["versions"]["planner"] for step in after["steps"]} == {other}
    assert [agent.replica(role).swaps for role in Role] == [2, 1, 1]
