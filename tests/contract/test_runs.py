"""Runs as things of their own: begun in the background, asked for twice, listed, cancelled, forgotten."""

import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.fakes import call, plan
from tests.world import World
from umi.roles import Role, Turn


def begin(world: World, **fields: Any) -> str:
    response = world.ask(background=True, **fields)
    assert response.status_code == 202, response.text
    run_id = str(response.json()["run_id"])
    assert response.headers["location"] == f"/v1/runs/{run_id}"
    assert response.json()["outcome"] is None
    return run_id


def finished(world: World, run_id: str) -> dict[str, Any]:
    for _ in range(200):
        run = world.client.get(f"/v1/runs/{run_id}").json()
        if run["outcome"] is not None:
            return run
        time.sleep(0.02)
    raise AssertionError("the run does not end")


def test_a_background_run_is_answered_at_once_and_ends_by_itself(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    run = finished(world, begin(world))
    assert (run["outcome"], len(run["steps"])) == ("answered", 2)


def test_stream_and_background_exclude_each_other(world: World) -> None:
    response = world.ask(stream=True, background=True)
    assert response.status_code == 422
    assert "choose one of stream and background" in response.text


@pytest.mark.parametrize("slow", ["planner", "tool"])
def test_cancelling_ends_the_generation_or_the_tool_call_in_flight(world: World, slow: str) -> None:
    if slow == "planner":
        world.script.delays[Role.PLANNER] = 30
    else:
        world.client.base_url = world.start(tool_seconds=30)
        world.script.calls = [call("slow")]
    run_id = begin(world)
    while slow == "tool" and "/slow" not in world.called:
        time.sleep(0.01)
    started = time.monotonic()
    cancelled = world.client.post(f"/v1/runs/{run_id}/cancel").json()
    assert cancelled["outcome"] == "cancelled"
    assert time.monotonic() - started < 10
    events = world.client.get(f"/v1/runs/{run_id}/events").text
    assert events.count("event: run.completed") == 1
    assert 'umi_runs_total{outcome="cancelled"} ' in world.client.get("/metrics").text


def test_whoever_waits_for_a_run_that_somebody_else_cancels_is_told_its_end(world: World) -> None:
    world.script.delays[Role.PLANNER] = 30
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(world.ask()))
    asking.start()
    while not (running := world.client.get("/v1/runs?outcome=running").json()["runs"]):
        time.sleep(0.01)
    world.client.post(f"/v1/runs/{running[0]['run_id']}/cancel")
    asking.join(20)
    assert [(answer.status_code, answer.json().get("outcome")) for answer in answers] == [(200, "cancelled")]


def test_cancelling_a_run_that_has_ended_changes_nothing(world: World) -> None:
    run = world.run()
    assert world.client.post(f"/v1/runs/{run['run_id']}/cancel").json() == run
    assert world.client.post("/v1/runs/none/cancel").status_code == 404


def test_a_run_that_goes_on_in_another_gateway_is_cancelled_there(world: World) -> None:
    world.script.delays[Role.PLANNER] = 60
    other = world.start()
    run_id = begin(world)
    while not world.script.requests:
        time.sleep(0.01)
    cancelled = httpx.post(f"{other}/v1/runs/{run_id}/cancel", timeout=50, trust_env=False)
    assert (cancelled.status_code, cancelled.json()["outcome"]) == (200, "cancelled")


def test_the_same_request_with_the_same_key_is_one_run(world: World) -> None:
    world.script.calls = [call("make_note", text="buy milk")]
    headers = {"idempotency-key": f"key-{time.time_ns()}"}
    body = {"query": "Note: buy milk"}
    first, again = (world.client.post("/v1/queries", json=body, headers=headers).json() for _ in range(2))
    assert first == again
    assert world.called == ["/notes"]
    begun = world.client.post("/v1/queries", json={**body, "background": True}, headers=headers)
    assert begun.json()["run_id"] == first["run_id"]
    other = world.client.post("/v1/queries", json={"query": "Note: buy bread"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "conflict")
    assert "Idempotency-Key" in other.json()["detail"]


def test_a_request_repeated_while_its_run_goes_on_waits_for_that_run(world: World) -> None:
    world.script.delays[Role.PLANNER] = 0.3
    headers = {"idempotency-key": f"key-{time.time_ns()}"}
    body = {"query": "q"}
    begun = world.client.post("/v1/queries", json={**body, "background": True}, headers=headers).json()
    waited = world.client.post("/v1/queries", json=body, headers=headers).json()
    assert (waited["run_id"], waited["outcome"]) == (begun["run_id"], "answered")


def test_runs_are_listed_newest_first_page_by_page_and_by_outcome(world: World) -> None:
    made = [world.run(query=f"query {number}")["run_id"] for number in range(4)]
    world.script.plans = [plan(Turn.GIVE_UP)]
    given_up = world.run(query="hopeless")["run_id"]
    page = world.client.get("/v1/runs", params={"limit": 3}).json()
    assert [run["run_id"] for run in page["runs"]] == [given_up, made[3], made[2]]
    following = world.client.get("/v1/runs", params={"limit": 2, "cursor": page["next"]}).json()
    assert [run["run_id"] for run in following["runs"]] == [made[1], made[0]]
    hopeless = world.client.get("/v1/runs", params={"outcome": "gave_up", "limit": 1}).json()["runs"]
    assert [(run["run_id"], run["query"]) for run in hopeless] == [(given_up, "hopeless")]
    world.script.plans = None
    world.script.delays[Role.PLANNER] = 0.5
    running = begin(world)
    listed = world.client.get("/v1/runs", params={"outcome": "running"}).json()["runs"]
    assert running in [run["run_id"] for run in listed]
    finished(world, running)


@pytest.mark.parametrize("parameters", [{"cursor": "nonsense"}, {"limit": 0}, {"outcome": "lost"}])
def test_a_bad_list_request_is_a_422(world: World, parameters: dict[str, Any]) -> None:
    assert world.client.get("/v1/runs", params=parameters).status_code == 422


def test_a_run_that_has_ended_can_be_forgotten_and_one_that_goes_on_cannot(world: World) -> None:
    run_id = world.run()["run_id"]
    assert world.client.delete(f"/v1/runs/{run_id}").status_code == 204
    assert world.client.get(f"/v1/runs/{run_id}").status_code == 404
    assert world.client.delete(f"/v1/runs/{run_id}").status_code == 404
    world.script.delays[Role.PLANNER] = 0.5
    running = begin(world)
    assert world.client.delete(f"/v1/runs/{running}").status_code == 409
    finished(world, running)


def test_a_role_thinks_while_the_log_cannot_be_written_and_no_call_is_sent_that_changes_anything(world: World) -> None:
    world.script.calls = [call("make_note", text="milk")]
    world.script.delays[Role.PLANNER] = 0.5
    run_id = begin(world)
    with closing(sqlite3.connect(world.database.removeprefix("sqlite:///"), timeout=30)) as other:
        until_asked(world, Role.PLANNER)
        other.execute("BEGIN IMMEDIATE")  # nobody else writes now
        until_asked(world, Role.CALLER)
        time.sleep(0.3)
        assert world.called == []
        assert world.client.get(f"/v1/runs/{run_id}").json()["steps"] == []
        other.rollback()
    assert finished(world, run_id)["outcome"] == "answered"
    assert world.called == ["/notes"]


def test_a_call_that_may_be_repeated_is_sent_while_the_log_cannot_be_written_and_nothing_is_told_of_it(
    world: World,
) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.delays[Role.PLANNER] = 0.5
    run_id = begin(world)
    with closing(sqlite3.connect(world.database.removeprefix("sqlite:///"), timeout=30)) as other:
        until_asked(world, Role.PLANNER)
        other.execute("BEGIN IMMEDIATE")
        until_asked(world, Role.SUMMARIZER)
        time.sleep(0.3)
        assert world.called == ["/add"]
        shown = world.client.get(f"/v1/runs/{run_id}").json()
        assert (shown["steps"], shown["outcome"]) == ([], None)
        other.rollback()
    assert [step["observation"] for step in finished(world, run_id)["steps"]] == ['{"sum": 5}', None]
    assert world.called == ["/add"]


def test_the_planner_thinks_while_a_run_cannot_be_stored_and_nothing_is_answered(world: World) -> None:
    answers: list[httpx.Response] = []
    with closing(sqlite3.connect(world.database.removeprefix("sqlite:///"), timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = threading.Thread(target=lambda: answers.append(world.ask()))
        asking.start()
        until_asked(world, Role.SUMMARIZER)
        assert (answers, world.client.get("/v1/runs?limit=1&outcome=running").json()["runs"]) == ([], [])
        other.rollback()
    asking.join(20)
    assert answers[0].json()["outcome"] == "answered"


def test_a_run_that_could_not_be_stored_is_an_error_and_comes_to_nothing(world: World) -> None:
    world.script.calls = [call("make_note", text="milk")]
    with closing(sqlite3.connect(world.database.removeprefix("sqlite:///"), timeout=30)) as other:
        other.execute("ALTER TABLE events RENAME TO gone")
        assert world.ask().status_code == 500
        time.sleep(0.5)
        other.execute("ALTER TABLE gone RENAME TO events")
    assert world.called == []
    assert Role.SUMMARIZER not in {role for role, _ in world.script.requests}


def test_no_call_is_sent_when_the_plan_before_it_could_not_be_stored_and_the_run_goes_on_later(world: World) -> None:
    world.client.base_url = world.start(lease_seconds=1)
    world.script.calls = [call("make_note", text="milk")]
    world.script.delays[Role.PLANNER] = 0.5
    run_id = begin(world)
    with closing(sqlite3.connect(world.database.removeprefix("sqlite:///"), timeout=30)) as other:
        until_asked(world, Role.PLANNER)
        other.execute("ALTER TABLE events RENAME TO gone")
        until_asked(world, Role.CALLER)
        time.sleep(0.5)
        assert world.called == []
        other.execute("ALTER TABLE gone RENAME TO events")
    assert finished(world, run_id)["outcome"] == "answered"
    assert world.called == ["/notes"]


def until_asked(world: World, role: Role) -> None:
    until = time.monotonic() + 20
    while role not in {asked for asked, _ in world.script.requests}:
        assert time.monotonic() < until, f"the {role} is not asked"
        time.sleep(0.01)
