"""Calls that a person has to approve: what is shown, what waits, what is sent, and who may say so."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from gateway.settings import Settings
from tests.fakes import call, plan
from tests.world import World
from umi.roles import Role, Turn

YES = {"approve": True, "step": 1}
NOTE = {"method": "POST", "body": {"text": "buy milk"}}


class Guarded(World):
    """A world whose tools need approval for what changes something, and may take their time."""

    def settings(self, **changes: Any) -> Settings:
        return super().settings(**{"tool_seconds": 20, **changes})

    def reset(self) -> None:
        super().reset()
        self.policy("needs_approval")
        self.script.calls = [call("make_note", text="buy milk")]

    def policy(self, policy: str, **exceptions: str) -> dict[str, Any]:
        body = {"name": "test", "url": f"{self.tools}/openapi.json", "policy": policy, "tool_policy": exceptions}
        added = self.client.post("/v1/toolsets", json=body)
        assert added.status_code == 201, added.text
        return added.json()

    def wait(self, **fields: Any) -> dict[str, Any]:
        """A run that waits."""
        response = self.ask(**fields)
        assert response.status_code == 202, response.text
        assert response.headers["location"] == f"/v1/runs/{response.json()['run_id']}"
        assert response.json()["status"] == "requires_action"
        return response.json()

    def decide(self, run: dict[str, Any], approve: bool = True, step: int = 1, **fields: Any) -> httpx.Response:
        body = {"approve": approve, "step": step, **fields}
        return self.client.post(f"/v1/runs/{run['run_id']}/approve", json=body)

    def waits(self, run: dict[str, Any], step: int = 1) -> None:
        """Returns when the run waits with that step's call."""
        for _ in range(500):
            asked = self.client.get(f"/v1/runs/{run['run_id']}").json()["required_action"]
            if asked is not None and asked["step"] == step:
                return
            time.sleep(0.02)
        raise AssertionError("the run does not wait")

    def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        for _ in range(500):
            now = self.client.get(f"/v1/runs/{run['run_id']}").json()
            if now["outcome"] is not None:
                return now
            time.sleep(0.02)
        raise AssertionError("the run does not end")

    def events(self, run: dict[str, Any]) -> list[str]:
        """The types of a finished run's events."""
        lines = self.client.get(f"/v1/runs/{run['run_id']}/events").text.splitlines()
        return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with ExitStack() as stack:
        yield Guarded(tmp_path_factory.mktemp("gateway"), stack)


@pytest.fixture
def world(shared: Guarded) -> Guarded:
    shared.reset()
    return shared


def conflict(response: httpx.Response, says: str) -> None:
    assert (response.status_code, response.headers["content-type"]) == (409, "application/problem+json")
    assert (response.json()["type"], response.json()["field"]) == ("conflict", "step")
    assert says in response.json()["detail"]


def test_a_call_that_changes_something_waits_and_what_is_shown_is_what_is_sent(world: Guarded) -> None:
    run = world.wait()
    asked = run["required_action"]
    assert (asked["step"], asked["toolset"]) == (1, "test")
    assert asked["call"] == {"tool": "make_note", "arguments": {"text": "buy milk"}}
    assert asked["request"] == {**NOTE, "url": f"{world.tools}/notes"}
    assert world.called == []
    going_on = world.decide(run)
    assert (going_on.status_code, going_on.json()["required_action"]) == (200, None)
    done = world.ended(run)
    assert (done["status"], done["outcome"], world.called) == ("ended", "answered", ["/notes"])
    assert (done["steps"][0]["observation"], done["steps"][0]["needs_approval"]) == ('{"kept": "buy milk"}', True)
    approval = done["steps"][0]["approval"]
    assert (approval["approve"], approval["reason"], approval["by"]) == (True, None, None)
    assert run["created_at"] < approval["at"] < done["ended_at"]
    kinds = "run.created plan call requires_action approval sending observation plan run.completed"
    assert world.events(run) == kinds.split()


def test_a_call_that_changes_nothing_does_not_wait(world: Guarded) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    run = world.run()
    assert (run["status"], run["steps"][0]["needs_approval"]) == ("ended", False)


def test_an_exception_makes_every_call_of_a_tool_wait_or_none(world: Guarded) -> None:
    shown = world.policy("allowed", add="needs_approval")
    assert (shown["policy"], shown["tool_policy"]) == ("allowed", {"add": "needs_approval"})
    tools = {tool["name"]: tool for tool in world.client.get("/v1/tools").json()}
    assert [(tools[n]["changes_state"], tools[n]["needs_approval"]) for n in ("add", "make_note")] == [
        (False, True),
        (True, False),
    ]
    assert world.run()["steps"][0]["tool_outcome"] == "ok"
    world.script.calls = [call("add", a=2, b=3)]
    run = world.wait()
    world.decide(run)
    assert world.ended(run)["steps"][0]["observation"] == '{"sum": 5}'


def test_of_a_read_only_toolset_nothing_that_changes_something_is_offered(world: Guarded) -> None:
    added = world.policy("read_only")
    assert (added["withheld"], "add" in added["tools"]) == (["make_note", "make_slow_note"], True)
    assert world.client.get("/v1/toolsets").json()[0]["withheld"] == added["withheld"]
    assert "make_note" not in {tool["name"] for tool in world.client.get("/v1/tools").json()}
    assert world.ask(tools=["make_note"]).json()["type"] == "unknown-tool"
    run = world.run(max_steps=1)
    assert (run["steps"][0]["tool_outcome"], world.called) == ("rejected", [])


def test_a_policy_that_fits_no_tool_is_a_422(world: Guarded) -> None:
    body = {"name": "test", "url": f"{world.tools}/openapi.json"}
    for wrong, field in (({"policy": "never"}, "policy"), ({"tool_policy": {"gone": "allowed"}}, "tool_policy")):
        refused = world.client.post("/v1/toolsets", json={**body, **wrong})
        assert (refused.status_code, refused.json()["field"]) == (422, field)


def test_a_call_that_is_not_valid_is_nobodys_to_approve(world: Guarded) -> None:
    world.script.calls = [call("make_note", text=5)]
    assert world.run()["steps"][0]["tool_outcome"] == "rejected"


def test_a_refusal_is_an_observation_with_its_reason_and_nothing_is_sent(world: Guarded) -> None:
    run = world.wait()
    assert world.decide(run, approve=False, reason="we have milk").status_code == 200
    done = world.ended(run)
    step = done["steps"][0]
    assert step["observation"] == "Not sent: the user refused this call: we have milk"
    assert (step["tool_outcome"], step["approval"]["approve"]) == ("refused", False)
    assert (done["outcome"], world.called) == ("answered", [])
    told = [request.trajectory.steps for role, request in world.script.requests if role is Role.PLANNER][-1]
    assert told[0].observation == step["observation"]


def test_every_call_that_needs_approval_waits_by_itself(world: Guarded) -> None:
    world.script.calls = [call("make_note", text="buy milk"), call("make_note", text="buy bread")]
    run = world.wait()
    world.decide(run)
    world.waits(run, 2)
    conflict(world.decide(run, step=1), "step 1 was approved already")
    conflict(world.decide(run, step=7), "the run waits with step 2, not with step 7")
    assert world.decide(run, step=2).status_code == 200
    assert (world.ended(run)["outcome"], world.called) == ("answered", ["/notes", "/notes"])


def test_only_what_waits_can_be_decided_on(world: Guarded) -> None:
    run = world.wait()
    assert world.client.post("/v1/runs/none/approve", json={"approve": True, "step": 1}).status_code == 404
    for wrong in ({"approve": True}, {"approve": "yes", "step": 1}, {"approve": True, "step": 0}):
        assert world.client.post(f"/v1/runs/{run['run_id']}/approve", json=wrong).status_code == 422
    world.script.delays[Role.PLANNER] = 0.5
    assert world.decide(run, approve=False).status_code == 200
    conflict(world.decide(run), "step 1 was refused already")
    conflict(world.decide(run, step=2), "the run does not wait for approval")
    world.ended(run)
    conflict(world.decide(run, step=2), "the run has ended: answered")
    assert world.called == []


def test_of_two_who_decide_at_once_one_is_told_that_it_is_too_late(world: Guarded) -> None:
    gateways = [world.gateway, world.start()]
    with ThreadPoolExecutor(2) as people:
        for _ in range(5):
            run = world.wait()
            urls = [f"{gateway}/v1/runs/{run['run_id']}/approve" for gateway in gateways]
            answers = people.map(lambda url: httpx.post(url, json=YES, timeout=20, trust_env=False).status_code, urls)
            assert sorted(answers) == [200, 409]
            world.ended(run)
    assert world.called == ["/notes"] * 5


def test_a_stream_stays_open_and_goes_on_after_the_decision(world: Guarded) -> None:
    body = {"query": "Note: buy milk", "stream": True}
    seen: list[str] = []
    with world.client.stream("POST", "/v1/queries", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if line.startswith("data: ") and seen[-1] == "requires_action":
                event = httpx.Response(200, content=line[6:]).json()
                request = event["data"]["request"]
                assert (request["json_body"], event["data"]["expires_at"] > time.time()) == ({"text": "buy milk"}, True)
                assert world.decide(event).status_code == 200
    assert seen[-2:] == ["plan", "run.completed"]
    assert world.called == ["/notes"]


def test_a_run_that_waits_is_listed_counted_and_cannot_be_forgotten(world: Guarded) -> None:
    run = world.wait()
    listed = world.client.get("/v1/runs", params={"outcome": "requires_action"}).json()["runs"]
    assert (listed[0]["run_id"], listed[0]["status"], listed[0]["outcome"]) == (run["run_id"], "requires_action", None)
    running = world.client.get("/v1/runs", params={"outcome": "running"}).json()["runs"]
    assert run["run_id"] not in {each["run_id"] for each in running}
    assert "umi_runs_requiring_action 1.0" in world.client.get("/metrics").text
    assert world.client.delete(f"/v1/runs/{run['run_id']}").status_code == 409
    before = _count(world, "approved")
    world.decide(run)
    world.ended(run)
    assert "umi_runs_requiring_action 0.0" in world.client.get("/metrics").text
    assert _count(world, "approved") == before + 1
    assert world.client.get("/v1/runs", params={"outcome": "requires_action"}).json()["runs"] == []


def _count(world: Guarded, decision: str) -> float:
    series = f'umi_approvals_total{{decision="{decision}"}} '
    lines = world.client.get("/metrics").text.splitlines()
    return next(float(line.removeprefix(series)) for line in lines if line.startswith(series))


def test_a_run_that_waits_can_be_cancelled_and_nothing_is_sent(world: Guarded) -> None:
    run = world.wait()
    cancelled = httpx.post(f"{world.start()}/v1/runs/{run['run_id']}/cancel", timeout=20, trust_env=False).json()
    assert (cancelled["outcome"], cancelled["required_action"]) == ("cancelled", None)
    conflict(world.decide(run, step=2), "the run has ended: cancelled")
    assert world.called == []


def test_runs_that_wait_do_not_keep_others_from_going_on(world: Guarded) -> None:
    world.client.base_url = world.start(max_running=1)
    waiting = [world.wait() for _ in range(3)]
    world.script.calls = [call("add", a=2, b=3)]
    assert world.run()["outcome"] == "answered"
    for run in waiting:
        world.decide(run, approve=False)
    assert {world.ended(run)["outcome"] for run in waiting} == {"answered"}


def test_waiting_for_a_person_is_no_part_of_the_deadline(world: Guarded) -> None:
    run = world.wait(deadline_seconds=4.0)
    time.sleep(4.1)
    assert world.decide(run).status_code == 200
    done = world.ended(run)
    assert done["outcome"] == "answered"
    assert done["timings"]["total"] < 4.0
    assert done["ended_at"] - done["created_at"] > 4.1


def test_the_time_before_the_wait_is_a_part_of_the_deadline(world: Guarded) -> None:
    world.script.delays[Role.PLANNER] = 2.2
    run = world.wait(deadline_seconds=4.0)
    assert world.decide(run).status_code == 200
    done = world.ended(run)
    assert done["outcome"] == "deadline"
    assert done["timings"]["total"] > 3.9


def test_a_run_that_nobody_decides_on_expires(world: Guarded) -> None:
    world.client.base_url = world.start(approval_seconds=2, lease_seconds=1)
    run = world.wait()
    done = world.ended(run)
    assert (done["outcome"], done["required_action"], world.called) == ("expired", None, [])
    conflict(world.decide(run), "the run has ended: expired")


def test_a_decision_that_comes_too_late_counts_for_nothing(world: Guarded) -> None:
    world.client.base_url = world.start(approval_seconds=1, lease_seconds=60)
    run = world.wait()
    time.sleep(1.1)
    refused = world.decide(run)
    conflict(refused, "the run has ended" if "ended" in refused.text else "it is too late")
    assert world.called == []


def test_a_tool_that_is_withdrawn_while_its_call_waits_is_not_called(world: Guarded) -> None:
    run = world.wait()
    world.policy("read_only")
    world.decide(run)
    done = world.ended(run)
    assert done["steps"][0]["observation"] == "Not sent: there is no tool 'make_note' any more."
    assert (done["steps"][0]["tool_outcome"], world.called) == ("rejected", [])


def test_the_same_request_asked_again_while_its_run_waits_is_that_run(world: Guarded) -> None:
    headers = {"idempotency-key": f"key-{time.time_ns()}"}
    first, again = (world.client.post("/v1/queries", json={"query": "q"}, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["run_id"] == again.json()["run_id"]


def test_a_run_in_the_background_waits_as_well(world: Guarded) -> None:
    run = world.ask(background=True).json()
    world.waits(run)
    assert world.decide(run).status_code == 200
    assert world.ended(run)["outcome"] == "answered"


def test_a_planner_that_gives_up_and_goes_on_after_more_tools_still_asks(world: Guarded) -> None:
    world.client.base_url = world.start(max_offered=1)
    world.script.wants = "make_note"
    world.script.plans = [plan(Turn.CALLER), plan(Turn.CONCLUSION)]
    run = world.wait(query="Please add whole numbers")
    step = run["required_action"]["step"]
    assert world.decide(run, step=step).status_code == 200
    assert world.ended(run)["steps"][step - 1]["tool_outcome"] == "ok"
