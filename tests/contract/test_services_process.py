"""The role services over a real socket: clients that leave, queues that fill, engines that fail."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from services.app import create_app
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from tests.contract.test_services import GOOD_PLAN, assert_problem, body, value


@asynccontextmanager
async def listening(engine: ScriptedEngine, directory: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(PLANNER, engine, bare(directory), RoleSettings(**settings), lambda reason: None)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=2))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
        yield client
    server.should_exit = True
    await serving


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_client_that_leaves_aborts_its_generation(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with listening(engine, tmp_path) as client:
        engine.seconds_per_token = 10
        asking = asyncio.create_task(client.post("/v1/plan", json=body()))
        await eventually(lambda: len(engine.prompts) == 2)
        asking.cancel()
        await eventually(lambda: engine.aborted)
        metrics = (await client.get("/metrics")).text
    assert engine.aborted == engine.prompts[1:]
    assert value(metrics, 'umi_role_requests_total{outcome="aborted",role="planner"}') == 1
    assert value(metrics, 'umi_role_queue_depth{role="planner"}') == 0


async def test_beyond_the_queue_a_request_is_sent_away_with_a_time_to_come_back(tmp_path: Path) -> None:
    engine = ScriptedEngine([GOOD_PLAN])
    async with listening(engine, tmp_path, max_queue=2) as client:
        engine.seconds_per_token = 0.1
        first = [asyncio.create_task(client.post("/v1/plan", json=body())) for _ in range(2)]
        await eventually(lambda: len(engine.prompts) == 3)
        refused = await client.post("/v1/plan", json=body())
        answered = await asyncio.gather(*first)
    assert_problem(refused, 503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert [response.status_code for response in answered] == [200, 200]


async def test_an_engine_that_cannot_load_reports_one_sentence(tmp_path: Path) -> None:
    reasons: list[str] = []
    engine = ScriptedEngine([GOOD_PLAN], failure="vLLM cannot load x: no memory")
    app = create_app(PLANNER, engine, bare(tmp_path), RoleSettings(), reasons.append)
    async with app.router.lifespan_context(app):
        await eventually(lambda: reasons)
    assert reasons == ["vLLM cannot load x: no memory"]


def run_planner(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.planner", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_process_without_its_checkpoint_ends_with_one_sentence(tmp_path: Path) -> None:
    ended = run_planner("--checkpoint", str(tmp_path / "none"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("planner: ") and "manifest.json" in ended.stderr


def test_a_process_with_a_wrong_setting_names_it() -> None:
    ended = run_planner("--max-queue", "0")
    assert ended.returncode != 0
    assert "max_queue" in ended.stderr


def test_help_describes_every_flag() -> None:
    shown = run_planner("--help").stdout
    for name in RoleSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in shown
