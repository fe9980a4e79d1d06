"""The HTTP contract of the role services, with a scripted engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.app import create_app
from services.caller import CALLER
from services.planner import PLANNER
from services.role import RoleBehaviour
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from services.summarizer import SUMMARIZER
from tests.checkpoints import bare
from umi.errors import BadCheckpoint
from umi.roles import Role, Turn
from umi.trajectory import Call, Plan, Step, ToolSpec, Trajectory
from umi.wire import CallReply, PlanReply, SummaryReply

GOOD_PLAN = "I need the weather. Next: caller."
PLANNED = Step(plan=Plan(rationale="I need the weather.", turn=Turn.CALLER))
FINISHED = Step(plan=PLANNED.plan, call=Call(tool="weather", arguments={"city": "Oslo"}), observation="rain " * 50)
WEATHER = ToolSpec(
    name="weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def body(*steps: Step) -> dict[str, Any]:
    trajectory = Trajectory(query="Is it raining?", tools=(WEATHER,), steps=steps)
    return {"run_id": "r1", "trajectory": trajectory.model_dump(mode="json")}


@asynccontextmanager
async def serving(
    behaviour: RoleBehaviour, engine: ScriptedEngine, directory: Path, wait: bool = True, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    checkpoint = bare(
        directory,
        max_input_tokens=settings.pop("max_input_tokens", 3072),
        observation_tokens=settings.pop("trained_observation_tokens", None),
    )
    failures: list[str] = []
    app = create_app(behaviour, engine, checkpoint, RoleSettings(**settings), failures.append)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://role") as client,
    ):
        while wait and (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.001)
        engine.prompts.clear()
        engine.samplings.clear()
        yield client


def assert_problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == (kind, status)
    return problem


def value(metrics: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name))


async def test_a_planner_answers_with_a_plan_its_version_and_its_cost(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        response = await client.post("/v1/plan", json=body())
    reply = PlanReply.model_validate_json(response.content)
    assert reply.plan == PLANNED.plan
    assert reply.version == "test-1"
    assert reply.usage.completion_tokens == 6
    assert reply.usage.prompt_tokens > 5
    assert reply.usage.dropped_steps == 0


async def test_a_plan_that_wants_a_tool_which_is_not_offered_gives_up_and_says_so(tmp_path: Path) -> None:
    texts = [
        "To know more, use radar. Next: caller.",
        "To know more, use weather. Next: caller.",
        "I need it. Next: caller.",
    ]
    checkpoint = bare(tmp_path, tool_mention=r"\buse (\w+)\.$")
    app = create_app(PLANNER, ScriptedEngine(["x", *texts]), checkpoint, RoleSettings())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://role") as client,
    ):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.001)
        plans = [
            PlanReply.model_validate_json((await client.post("/v1/plan", json=body())).content).plan for _ in texts
        ]
    assert plans[0] == Plan(rationale="To know more, use radar. radar is not offered.", turn=Turn.GIVE_UP)
    assert plans[1] == Plan(rationale="To know more, use weather.", turn=Turn.CALLER)
    assert plans[2] == Plan(rationale="I need it.", turn=Turn.CALLER)


async def test_a_caller_answers_with_a_call(tmp_path: Path) -> None:
    engine = ScriptedEngine(['{"name": "weather", "arguments": {"city": "Oslo"}}'])
    async with serving(CALLER, engine, tmp_path) as client:
        response = await client.post("/v1/call", json=body(PLANNED))
    assert CallReply.model_validate_json(response.content).call == FINISHED.call


async def test_a_summarizer_answers_with_text(tmp_path: Path) -> None:
    async with serving(SUMMARIZER, ScriptedEngine(["It rains."]), tmp_path) as client:
        response = await client.post("/v1/summarize", json=body(FINISHED, PLANNED))
    assert SummaryReply.model_validate_json(response.content).answer == "It rains."


async def test_the_prompt_is_the_checkpoints_template_ending_in_the_role(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with serving(PLANNER, engine, tmp_path) as client:
        await client.post("/v1/plan", json=body())
    assert engine.prompts[0].endswith("<|im_start|>planner")
    assert engine.samplings[0].temperature == 0


async def test_unusable_text_is_sampled_once_more_and_both_tries_are_paid(tmp_path: Path) -> None:
    texts = {0.0: "no turn at all", 0.7: GOOD_PLAN}
    engine = ScriptedEngine(lambda prompt, constraint, sampling: texts[sampling.temperature])
    async with serving(PLANNER, engine, tmp_path) as client:
        response = await client.post("/v1/plan", json=body())
        metrics = (await client.get("/metrics")).text
    assert response.status_code == 200
    assert response.json()["usage"]["completion_tokens"] == 10
    assert value(metrics, "umi_role_retries_total") == 1


async def test_text_that_stays_unusable_is_a_502(tmp_path: Path) -> None:
    engine = ScriptedEngine(["no turn"])
    async with serving(PLANNER, engine, tmp_path) as client:
        problem = assert_problem(await client.post("/v1/plan", json=body()), 502, "role-output-invalid")
    assert len(engine.prompts) == 2
    assert "Next: caller." in problem["detail"]


async def test_text_cut_off_at_the_token_limit_is_a_502(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine(["so " * 200 + GOOD_PLAN]), tmp_path) as client:
        problem = assert_problem(await client.post("/v1/plan", json=body()), 502, "role-output-invalid")
    assert "cut off at 160 tokens" in problem["detail"]


async def test_a_summarizer_that_goes_round_in_circles_is_not_asked_again_and_says_it_once(tmp_path: Path) -> None:
    engine = ScriptedEngine(["The list is empty. " * 100])
    async with serving(SUMMARIZER, engine, tmp_path) as client:
        response = await client.post("/v1/summarize", json=body(FINISHED, PLANNED))
    assert SummaryReply.model_validate_json(response.content).answer == "The list is empty."
    assert len(engine.prompts) == 1


async def test_a_long_history_loses_its_oldest_steps_and_says_so(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path, max_input_tokens=100) as client:
        response = await client.post("/v1/plan", json=body(FINISHED, FINISHED, FINISHED))
    usage = response.json()["usage"]
    assert usage["dropped_steps"] == 2
    assert usage["prompt_tokens"] <= 100


@pytest.mark.parametrize(
    ("budgets", "left"),
    [
        ({"observation_tokens": 32}, 32),
        ({"trained_observation_tokens": 40}, 40),
        ({"observation_tokens": 45, "trained_observation_tokens": 40}, 40),
        ({"observation_tokens": 35, "trained_observation_tokens": 40}, 35),
        ({"observation_tokens": 50}, 50),
        ({}, 50),
    ],
)
async def test_every_observation_is_read_within_its_budget_of_tokens(
    tmp_path: Path, budgets: dict[str, int], left: int
) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with serving(PLANNER, engine, tmp_path, **budgets) as client:
        usages = [(await client.post("/v1/plan", json=body(*[FINISHED] * n))).json()["usage"] for n in (1, 2)]
    assert [usage["shortened_observations"] for usage in usages] == ([1, 2] if left < 50 else [0, 0])
    first, second = engine.prompts
    tokens = first.partition("<|im_start|>tool ")[2].partition("<|im_end|>")[0].split()
    assert 2 * left // 3 < len(tokens) <= left
    assert second.startswith(first.removesuffix("planner")), "a prompt only grows"


async def test_the_engines_window_counts_too(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN], max_model_len=160 + 90)
    async with serving(PLANNER, engine, tmp_path) as client:
        response = await client.post("/v1/plan", json=body(FINISHED, FINISHED))
    assert response.json()["usage"]["dropped_steps"] == 1


async def test_what_cannot_be_shortened_is_a_413(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path, max_input_tokens=8) as client:
        assert_problem(await client.post("/v1/plan", json=body()), 413, "context-overflow")


async def test_a_body_beyond_the_limit_is_a_413_announced_or_not(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 2**19

    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path, max_body_mib=1) as client:
        assert_problem(await client.post("/v1/plan", content=b" " * (2**20 + 1)), 413, "body-too-large")
        streamed = await client.post("/v1/plan", content=chunks())
        assert streamed.status_code == 413


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"run_id": "a b"}, "run_id"),
        ({"trajectory": {"tools": []}}, "trajectory.query"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_a_bad_body_is_a_422_that_names_the_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        problem = assert_problem(await client.post("/v1/plan", json=body() | change), 422, "invalid-body")
    assert problem["field"] == field
    assert problem["errors"][0]["field"] == field


async def test_json_that_does_not_parse_is_a_422(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        headers = {"content-type": "application/json"}
        assert_problem(await client.post("/v1/plan", content=b"{", headers=headers), 422, "invalid-body")


async def test_a_trajectory_in_which_it_is_not_the_roles_turn_is_a_422(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        problem = assert_problem(await client.post("/v1/plan", json=body(PLANNED)), 422, "bad-input")
    assert problem["field"] == "trajectory.steps.0.observation"


async def test_a_service_that_loads_is_alive_not_ready_and_asks_to_come_back(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN], seconds_to_load=60)
    async with serving(PLANNER, engine, tmp_path, wait=False) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert "loading" in assert_problem(await client.get("/readyz"), 503, "not-ready")["detail"]
        response = await client.post("/v1/plan", json=body())
    assert_problem(response, 503, "not-ready")
    assert int(response.headers["retry-after"]) > 0
    assert engine.shut_down


async def test_readiness_names_role_version_and_backbone(tmp_path: Path) -> None:
    async with serving(CALLER, ScriptedEngine(["x"]), tmp_path) as client:
        ready = (await client.get("/readyz")).json()
    assert ready == {"role": "caller", "version": "test-1", "backbone": "SmolLM2-135M-Instruct"}


async def test_an_engine_that_dies_makes_the_service_unready(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with serving(PLANNER, engine, tmp_path) as client:
        engine.dead = True
        assert_problem(await client.post("/v1/plan", json=body()), 503, "engine-failed")
        assert_problem(await client.get("/readyz"), 503, "not-ready")


async def test_readiness_notices_that_the_engine_has_died(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with serving(PLANNER, engine, tmp_path) as client:
        engine.dead = True
        assert "dead" in assert_problem(await client.get("/readyz"), 503, "not-ready")["detail"]


async def test_metrics_count_requests_tokens_and_depth_under_few_labels(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        await client.post("/v1/plan", json=body())
        await client.post("/v1/plan", json={})
        metrics = (await client.get("/metrics")).text
    assert value(metrics, 'umi_role_requests_total{outcome="ok",role="planner"}') == 1
    assert value(metrics, 'umi_role_requests_total{outcome="bad_input",role="planner"}') == 1
    assert value(metrics, 'umi_role_tokens_total{kind="completion",role="planner",version="test-1"}') == 6
    assert value(metrics, 'umi_role_seconds_count{role="planner",version="test-1"}') == 1
    assert value(metrics, 'umi_role_queue_depth{role="planner"}') == 0


async def test_a_checkpoint_of_another_role_is_refused(tmp_path: Path) -> None:
    checkpoint = bare(tmp_path, roles=(Role.CALLER,))
    with pytest.raises(BadCheckpoint, match="not for planner"):
        create_app(PLANNER, ScriptedEngine([GOOD_PLAN]), checkpoint, RoleSettings())


async def test_the_openapi_document_shows_the_reply_and_the_problems(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/plan"]["post"]["responses"]
    assert "PlanReply" in json.dumps(responses["200"])
    assert {"413", "422", "502", "503"} <= set(responses)
