"""The gateway's contract over loopback HTTP: runs, outcomes, streams, failures of the roles."""

import json
import time
from typing import Any

import httpx
import pytest
from fastapi import Response

from tests.fakes import call, free_port, plan
from tests.world import World
from umi.roles import Role, Turn


def test_a_query_is_answered_and_every_step_is_accounted_for(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3), call("make_note", text="five")]
    run = world.run()
    assert (run["outcome"], run["answer"]) == ("answered", "It is done.")
    first, second, last = run["steps"]
    assert first["observation"] == '{"sum": 5}'
    assert first["request"] == {"method": "GET", "url": f"{world.tools}/add?a=2&b=3", "body": None}
    assert (first["response_status"], first["tool_outcome"], first["toolset"]) == (200, "ok", "test")
    assert first["versions"] == {"planner": "v1", "caller": "v1"}
    assert first["usage"]["caller"]["prompt_tokens"] == 10
    assert min(first["seconds"].values()) > 0
    assert second["request"]["body"] == {"text": "five"}
    assert (last["turn"], last["call"], last["versions"]["summarizer"]) == ("conclusion", None, "v1")
    assert run["usage"]["planner"]["completion_tokens"] == 9
    assert run["timings"]["total"] > run["timings"]["planner"] > 0
    assert world.client.get(f"/v1/runs/{run['run_id']}").json() == run


def test_roles_see_tool_specs_and_finished_steps_only(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.run()
    assert [role for role, _ in world.script.requests] == [
        Role.PLANNER,
        Role.CALLER,
        Role.PLANNER,
        Role.SUMMARIZER,
    ]
    _, caller, planner, summarizer = (request.trajectory for _, request in world.script.requests)
    assert [step.call for step in caller.steps] == [None]
    assert [step.observation for step in planner.steps] == ['{"sum": 5}']
    assert [step.call is None for step in summarizer.steps] == [False, True]
    assert world.tools not in caller.model_dump_json()


def test_a_run_asks_each_role_for_the_version_it_began_with(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3), call("add", a=5, b=5)]
    world.run()
    asked = [(role, request.version) for role, request in world.script.requests]
    planner, caller = [[v for role, v in asked if role is wanted] for wanted in (Role.PLANNER, Role.CALLER)]
    assert (planner, caller) == ([None, "v1", "v1"], [None, "v1"])


def test_giving_up_and_running_out_of_steps_or_time_are_outcomes(world: World) -> None:
    world.script.plans = [plan(Turn.GIVE_UP)]
    assert world.run()["outcome"] == "gave_up"
    world.script.plans, world.script.calls = [plan(Turn.CALLER)], [call("add", a=1, b=1)]
    limited = world.run(max_steps=3)
    assert (limited["outcome"], len(limited["steps"]), limited["answer"]) == ("max_steps", 3, None)
    world.script.calls = [call("slow")]
    started = time.monotonic()
    late = world.run(deadline_seconds=0.3)
    assert (late["outcome"], late["steps"][0]["observation"]) == ("deadline", None)
    assert time.monotonic() - started < 2


def test_a_planner_that_misses_a_registered_tool_is_offered_it_and_plans_anew(world: World) -> None:
    world.client.base_url = world.start(max_offered=1)
    world.script.wants, world.script.calls = "make_note", [call("make_note", text="five")]
    run = world.run()
    assert (run["outcome"], [step["turn"] for step in run["steps"]]) == (
        "answered",
        ["give up", "caller", "conclusion"],
    )
    assert "make_note" not in run["tools"][:1]
    assert "make_note" in run["tools"][1:]
    first, second = [request.trajectory for role, request in world.script.requests if role is Role.PLANNER][:2]
    assert [tool.name for tool in second.tools] == run["tools"]
    assert second.tools[:1] == first.tools
    assert second.steps == ()


def test_a_planner_is_offered_nothing_beyond_the_tools_that_the_user_named(world: World) -> None:
    world.script.wants = "make_note"
    run = world.run(tools=["add"])
    assert (run["outcome"], run["tools"], len(run["steps"])) == ("gave_up", ["add"], 1)


def test_a_planner_that_misses_what_nobody_has_ends_the_run(world: World) -> None:
    world.client.base_url = world.start(max_offered=1)
    world.script.plans = [plan(Turn.GIVE_UP, "Xyzzy.")]
    assert len(world.run()["steps"]) == 1
    world.script.plans = [plan(Turn.GIVE_UP, "I want to answer a page late, to keep a note and to fail.")]
    assert len(world.run()["steps"]) == 3


def test_the_deadline_cancels_a_role_that_is_still_writing(world: World) -> None:
    world.script.delays[Role.PLANNER] = 30
    started = time.monotonic()
    assert world.run(deadline_seconds=0.2)["outcome"] == "deadline"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("slow", "The tool did not answer within 0.5 s."),
        ("boom", "Error 500: the disk is on fire"),
        ("page", "Hello there"),
        ("huge", "Response larger than 1 MB; not shown."),
        ("elsewhere", "The tool leads to 10.0.0.1, which is not among the hosts of its toolset."),
        ("surrogate", '{"text": "?"}'),
        ("deep", "The response is nested too deeply; not shown."),
        ("long_header", "The tool gave a response that could not be read: it broke off."),
        ("invented", "Not sent: there is no tool 'invented'; the tools are "),
    ],
)
def test_whatever_a_tool_does_becomes_an_observation(world: World, tool: str, expected: str) -> None:
    world.script.calls = [call(tool)]
    assert world.observation().startswith(expected)


def test_a_tool_that_is_down_becomes_an_observation(world: World) -> None:
    document = httpx.get(f"{world.tools}/openapi.json").json()
    body = {"name": "test", "document": document, "base_url": f"http://127.0.0.1:{free_port()}"}
    assert world.client.post("/v1/toolsets", json=body).status_code == 201
    world.script.calls = [call("add", a=1, b=1)]
    assert world.observation() == "The tool could not be reached: the connection failed."


def test_arguments_that_break_the_schema_never_leave_the_process(world: World) -> None:
    world.script.calls = [call("add", a="two", b=3)]
    step = world.run()["steps"][0]
    assert step["observation"] == "Not sent: argument 'a': 'two' is not of type 'integer'. Correct the call."
    assert (step["request"], step["tool_outcome"], world.called) == (None, "rejected", [])
    world.script.calls = [call("add", a=2)]
    assert "'b' is a required property" in world.observation()


def test_the_same_call_with_the_same_result_is_pointed_out_but_made(world: World) -> None:
    world.script.calls = [call("boom"), call("boom"), call("boom")]
    first, second, third, _ = (step["observation"] for step in world.run()["steps"])
    assert first == "Error 500: the disk is on fire"
    assert second == third
    assert second.startswith("You have already made this call")
    assert second.endswith(first)


def test_a_role_that_is_down_is_a_503_that_names_it_and_the_run_is_kept(world: World) -> None:
    world.client.base_url = world.start(summarizer_url=f"http://127.0.0.1:{free_port()}")
    response = world.ask()
    problem = response.json()
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert (problem["role"], problem["type"]) == ("summarizer", "role-unavailable")
    run = world.client.get(f"/v1/runs/{problem['run_id']}").json()
    assert (run["outcome"], run["problem"]["role"], len(run["steps"])) == ("failed", "summarizer", 1)
    ready = world.client.get("/readyz")
    assert ready.status_code == 503
    assert "not reachable" in ready.json()["roles"]["summarizer"]
    assert ready.json()["roles"]["planner"] == "ok"


def test_an_overloaded_role_is_asked_again_when_it_says_so(world: World) -> None:
    busy = Response("{}", 503, headers={"retry-after": "1"}, media_type="application/problem+json")
    world.script.failures = [(Role.PLANNER, busy)]
    assert world.run()["outcome"] == "answered"
    assert [role for role, _ in world.script.requests].count(Role.PLANNER) == 2


def test_waiting_for_a_role_ends_before_the_deadline_does(world: World) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    world.client.base_url = world.start(planner_url=down, role_patience_seconds=600)
    response = world.ask(deadline_seconds=1)
    assert (response.status_code, response.json()["role"]) == (503, "planner")


def test_a_role_that_is_overloaded_beyond_the_deadline_is_a_503_with_retry_after(world: World) -> None:
    world.script.failures = [(Role.PLANNER, Response("full", 503, headers={"retry-after": "60"}))]
    response = world.ask(deadline_seconds=5)
    assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    assert (response.json()["type"], response.json()["role"]) == ("role-overloaded", "planner")


LOADING = Response('{"type": "not-ready", "detail": "loading"}', 503, headers={"retry-after": "5"})


def test_a_role_that_comes_back_soon_is_waited_for(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.failures = [(Role.PLANNER, LOADING), (Role.CALLER, LOADING)]
    assert world.run()["outcome"] == "answered"
    asked = [role for role, _ in world.script.requests]
    assert asked == [Role.PLANNER, Role.PLANNER, Role.CALLER, Role.CALLER, Role.PLANNER, Role.SUMMARIZER]


def test_a_role_that_is_still_loading_after_a_while_is_a_503(world: World) -> None:
    world.script.failures = [(Role.PLANNER, LOADING)] * 9
    response = world.ask()
    assert (response.status_code, response.json()["type"]) == (503, "role-unavailable")
    assert response.json()["detail"] == "planner: loading"


def test_a_prompt_that_does_not_fit_the_model_is_a_422_and_the_run_is_kept(world: World) -> None:
    overflow = Response('{"type": "context-overflow", "detail": "offer fewer tools"}', 413)
    world.script.failures = [(Role.PLANNER, overflow)]
    response = world.ask()
    assert (response.status_code, response.json()["type"]) == (422, "context-overflow")
    assert world.client.get(f"/v1/runs/{response.json()['run_id']}").json()["outcome"] == "failed"


@pytest.mark.parametrize("body", ["not JSON", "{}", '{"version": "v1"}', "null"])
def test_a_role_that_answers_nonsense_is_a_503(world: World, body: str) -> None:
    world.script.failures = [(Role.PLANNER, Response(body, 200, media_type="application/json"))]
    response = world.ask()
    assert (response.status_code, response.json()["type"]) == (503, "role-output-invalid")


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    kind = number = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "event":
            kind = value
        elif name == "data":
            found.append(json.loads(value))
            assert (found[-1]["type"], str(found[-1]["seq"])) == (kind, number)
    return found


def test_a_stream_shows_the_steps_as_they_happen_and_can_be_replayed(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    kinds = ["run.created", "plan", "call", "observation", "plan", "run.completed"]
    with world.client.stream("POST", "/v1/queries", json={"query": "q", "stream": True}) as response:
        live = events_of(response)
    assert [event["type"] for event in live] == kinds
    path = f"/v1/runs/{live[0]['run_id']}/events"
    with world.client.stream("GET", path) as response:
        assert events_of(response) == live
    with world.client.stream("GET", path, headers={"last-event-id": "3"}) as response:
        assert events_of(response) == live[4:]


def test_a_run_goes_on_and_can_be_followed_when_its_client_has_gone(world: World) -> None:
    world.script.delays[Role.SUMMARIZER] = 0.5
    with world.client.stream("POST", "/v1/queries", json={"query": "q", "stream": True}) as response:
        first = json.loads(next(line for line in response.iter_lines() if line.startswith("data: "))[6:])
    assert world.client.get(f"/v1/runs/{first['run_id']}").json()["outcome"] is None
    with world.client.stream("GET", f"/v1/runs/{first['run_id']}/events") as response:
        assert events_of(response)[-1]["data"]["outcome"] == "answered"


def test_a_restart_keeps_the_toolsets(world: World) -> None:
    world.client.base_url = world.start()
    assert [toolset["name"] for toolset in world.client.get("/v1/toolsets").json()] == ["test"]


def test_a_toolset_that_another_gateway_registers_or_forgets_is_noticed(world: World) -> None:
    other = world.start()
    document = {"openapi": "3.1.0", "paths": {"/w": {"get": {"operationId": "weather"}}}}
    body = {"name": "sky", "document": document, "base_url": "http://127.0.0.1:9"}
    assert world.client.post("/v1/toolsets", json=body).status_code == 201
    for method, expected in (("GET", ["test", "sky"]), ("DELETE", ["test"])):
        assert world.client.request(method, "/v1/toolsets/sky").status_code in {200, 204}
        until = time.monotonic() + 20
        while [t["name"] for t in httpx.get(f"{other}/v1/toolsets", trust_env=False).json()] != expected:
            assert time.monotonic() < until, "the other gateway does not notice"
            time.sleep(0.1)


def test_metrics_count_runs_steps_roles_and_tools(world: World) -> None:
    world.client.base_url = world.start()
    world.script.calls = [call("add", a=2, b=3)]
    world.run()
    text = world.client.get("/metrics").text
    assert 'umi_runs_total{outcome="answered"} 1.0' in text
    assert "umi_steps_total 2.0" in text
    assert 'umi_run_seconds_count{outcome="answered"} 1.0' in text
    assert ("umi_runs_waiting 0.0" in text, "umi_run_wait_seconds_count 1.0" in text) == (True, True)
    assert 'umi_tokens_total{kind="prompt",role="planner"} 20.0' in text
    assert 'umi_tokens_total{kind="completion",role="summarizer"} 3.0' in text
    assert 'umi_role_seconds_count{outcome="ok",role="planner"} 2.0' in text
    assert 'umi_tool_seconds_count{outcome="ok",toolset="test"} 1.0' in text
    assert world.client.delete("/v1/toolsets/test").status_code == 204
    assert 'toolset="test"' not in world.client.get("/metrics").text
