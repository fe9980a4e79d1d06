"""Turns that are read while they are written, over HTTP, with a scripted engine."""

import asyncio
import json
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
from tests.contract.test_services import FINISHED, GOOD_PLAN, PLANNED, body, serving
from tests.fakes import serve
from umi.grammar import parse_plan, rationale_so_far
from umi.sse import Parser
from umi.trajectory import Step
from umi.wire import EVENT_STREAM, ROLE_PATHS

ANSWER = "Yes. It rains in Oslo."


async def told(client: httpx.AsyncClient, behaviour: RoleBehaviour, *steps: Step) -> list[dict[str, Any]]:
    """What a stream tells, event by event."""
    path, accept = ROLE_PATHS[behaviour.role], {"accept": EVENT_STREAM}
    response = await client.post(path, json=body(*steps), headers=accept)
    assert response.headers["content-type"].startswith(EVENT_STREAM)
    return [json.loads(message.data) for message in Parser().feed(response.content)]


def joined(events: list[dict[str, Any]]) -> str:
    """The text that the parts make."""
    text = ""
    for event in events:
        if part := event.get("part"):
            text = text[: part["offset"]] + part["text"]
    return text


async def test_an_answer_is_told_word_by_word_and_then_whole(tmp_path: Path) -> None:
    async with serving(SUMMARIZER, ScriptedEngine([ANSWER]), tmp_path) as client:
        events = await told(client, SUMMARIZER, FINISHED, PLANNED)
    assert [event["part"] for event in events[:2]] == [
        {"offset": 0, "text": "Yes."},
        {"offset": 4, "text": " It"},
    ]
    assert len(events) == 6
    assert joined(events) == events[-1]["reply"]["answer"] == ANSWER
    assert events[-1]["reply"]["version"] == "test-1"


async def test_of_a_plan_the_rationale_is_told_and_not_whose_turn_is_next(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        events = await told(client, PLANNER)
    assert joined(events) == "I need the weather."
    assert events[-1]["reply"]["plan"] == {"rationale": "I need the weather.", "turn": "caller"}


@pytest.mark.parametrize(
    "text", [GOOD_PLAN, "Next: is a word. Next, I go on Nex: on. Next: conclusion.", " N. Next: give up."]
)
def test_what_is_told_of_a_rationale_always_begins_it(text: str) -> None:
    rationale = parse_plan(text).rationale
    assert all(rationale.startswith(rationale_so_far(text[:end])) for end in range(len(text) + 1))
    assert rationale_so_far(text) == rationale


async def test_a_text_that_is_thrown_away_is_begun_anew(tmp_path: Path) -> None:
    texts = {0.0: "I wonder.", 0.7: GOOD_PLAN}
    engine = ScriptedEngine(lambda prompt, constraint, sampling: texts[sampling.temperature])
    async with serving(PLANNER, engine, tmp_path) as client:
        events = await told(client, PLANNER)
    assert [event["part"]["offset"] for event in events[:-1]].count(0) == 2
    assert joined(events) == "I need the weather."


async def test_a_text_that_stays_unusable_ends_the_stream_with_the_problem(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine(["no turn"]), tmp_path) as client:
        events = await told(client, PLANNER)
    assert events[-1]["problem"]["type"] == "role-output-invalid"
    assert events[-1]["problem"]["status"] == 502


async def test_what_goes_wrong_before_there_is_a_text_has_its_own_status(tmp_path: Path) -> None:
    async with serving(PLANNER, ScriptedEngine([GOOD_PLAN]), tmp_path) as client:
        response = await client.post("/v1/plan", json=body(PLANNED), headers={"accept": EVENT_STREAM})
    assert response.status_code == 422
    assert response.json()["field"] == "trajectory.steps.0.observation"


async def test_a_call_is_not_shown_before_it_is_whole(tmp_path: Path) -> None:
    engine = ScriptedEngine(['{"name": "weather", "arguments": {"city": "Oslo"}}'])
    async with serving(CALLER, engine, tmp_path) as client:
        response = await client.post("/v1/call", json=body(PLANNED), headers={"accept": EVENT_STREAM})
    assert response.headers["content-type"] == "application/json"
    assert response.json()["call"]["arguments"] == {"city": "Oslo"}


async def test_a_reader_that_leaves_in_the_middle_stops_the_generation(tmp_path: Path) -> None:
    engine = ScriptedEngine(["word " * 200], seconds_per_token=0.05)
    app = create_app(SUMMARIZER, engine, bare(tmp_path), RoleSettings())
    with serve(app) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            while (await client.get("/readyz")).status_code != 200:
                engine.seconds_per_token = 0.0
                await asyncio.sleep(0.01)
            engine.seconds_per_token = 0.05
            asking = client.stream(
                "POST", "/v1/summarize", json=body(FINISHED, PLANNED), headers={"accept": EVENT_STREAM}
            )
            async with asking as response:
                await anext(response.aiter_bytes())
            async with asyncio.timeout(5):
                while not engine.aborted:
                    await asyncio.sleep(0.01)
            metrics = (await client.get("/metrics")).text
    assert 'umi_role_requests_total{outcome="aborted",role="summarizer"} 1.0' in metrics
