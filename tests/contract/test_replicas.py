"""Several replicas behind one name, and the token that they want to be shown. Real servers on loopback addresses."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from gateway.metrics import Metrics
from gateway.replicas import Replicas, addresses
from gateway.roles import Roles
from gateway.settings import Settings
from gateway.transport import RoleClient
from gateway.weights.replicas import reports
from services.app import create_app
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from tests.fakes import Script, free_port, serve
from umi.errors import RoleFailure, RoleUnavailable
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import Problem, Replica

TOKEN = "a-token-of-some-length"
NOT_READY = Response(
    Problem(type="not-ready", title="Not ready", status=503, detail="the engine is loading").model_dump_json(),
    503,
    {"retry-after": "5"},
    "application/problem+json",
)


@pytest.fixture
def pair() -> Iterator[tuple[list[Script], list[str]]]:
    """Two planners and their URLs."""
    scripts = [Script(), Script()]
    with contextlib.ExitStack() as stack:
        yield scripts, [stack.enter_context(serve(script.app())) for script in scripts]


@contextlib.asynccontextmanager
async def asking(urls: list[str], token: str | None = None) -> AsyncIterator[Roles]:
    """A client of planners at `urls`, which one name stands for; it has no patience when all are out of service."""
    async with RoleClient(64) as client:
        named = dict.fromkeys(Role, "http://planner:8101")
        yield Roles(client, named, Metrics(), 0.0, token=token, look=lambda _: urls)


async def plan(roles: Roles, run_id: str) -> str:
    """One planner's turn; the version that answered."""
    soon = asyncio.get_running_loop().time() + 5
    return (await roles.plan(run_id, Trajectory(query="Is it?", tools=()), soon)).version


async def test_runs_are_spread_over_all_replicas_and_each_keeps_to_one(pair: tuple[list[Script], list[str]]) -> None:
    scripts, urls = pair
    async with asking(urls) as roles:
        for _ in range(3):
            await asyncio.gather(*(plan(roles, f"run-{number}") for number in range(20)))
    counts = [len(script.requests) for script in scripts]
    assert sum(counts) == 60 and min(counts) >= 9
    asked = [{request.run_id for _, request in script.requests} for script in scripts]
    assert not asked[0] & asked[1]


async def test_what_one_replica_cannot_answer_another_does(pair: tuple[list[Script], list[str]]) -> None:
    scripts, urls = pair
    scripts[0].failures = [(Role.PLANNER, NOT_READY)] * 50
    gone = f"http://127.0.0.1:{free_port()}"
    async with asking([*urls, gone]) as roles:
        await asyncio.gather(*(plan(roles, f"run-{number}") for number in range(20)))
    assert len(scripts[1].requests) == 20


async def test_a_balancers_error_is_the_replicas_outage_and_a_roles_own_fault_is_not(
    pair: tuple[list[Script], list[str]],
) -> None:
    scripts, urls = pair
    scripts[0].failures = [(Role.PLANNER, Response("The actor died unexpectedly before finishing this task.", 500))]
    async with asking(urls) as roles:
        assert [await plan(roles, f"run-{number}") for number in range(8)] == ["v1"] * 8
    assert not scripts[0].failures
    fault = Problem(type="fault", title="A fault in the service", status=500, detail="KeyError").model_dump_json()
    for script in scripts:
        script.failures = [(Role.PLANNER, Response(fault, 500, media_type="application/problem+json"))]
    async with asking(urls) as roles:
        with pytest.raises(RoleFailure, match="KeyError") as raised:
            await plan(roles, "run-1")
    assert type(raised.value) is RoleFailure


async def test_a_balancer_is_told_which_turns_belong_together() -> None:
    script, told = Script(), list[str | None]()
    app = script.app()

    @app.middleware("http")
    async def note(request: Request, go_on: RequestResponseEndpoint) -> Response:
        told.append(request.headers.get("x-session-id"))
        return await go_on(request)

    with serve(app) as url:
        async with asking([url]) as roles:
            for run_id in ("run-1", "run-2", "run-1"):
                await plan(roles, run_id)
    assert told == ["run-1", "run-2", "run-1"] and note


async def test_a_replica_that_failed_is_left_alone_for_a_while(pair: tuple[list[Script], list[str]]) -> None:
    scripts, urls = pair
    scripts[0].failures = [(Role.PLANNER, NOT_READY)]
    async with asking(urls) as roles:
        for number in range(20):
            await plan(roles, f"run-{number}")
    assert len(scripts[0].requests) == 1


async def test_with_every_replica_loading_the_role_is_unavailable(pair: tuple[list[Script], list[str]]) -> None:
    scripts, urls = pair
    for script in scripts:
        script.failures = [(Role.PLANNER, NOT_READY)]
    async with asking(urls) as roles:
        with pytest.raises(RoleUnavailable, match="loading"):
            await plan(roles, "run-1")
    assert [len(script.requests) for script in scripts] == [1, 1]


async def test_a_role_is_ready_when_one_of_its_replicas_is(pair: tuple[list[Script], list[str]]) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    async with asking([gone, pair[1][0]]) as roles:
        assert await roles.is_ready(Role.PLANNER) is None
    async with asking([gone]) as roles:
        assert "not reachable" in (await roles.is_ready(Role.PLANNER) or "")


async def test_a_replica_that_appears_is_asked_a_second_later(pair: tuple[list[Script], list[str]]) -> None:
    _, urls = pair
    known = urls[:1]
    replicas = Replicas("http://planner:8101", lambda _: list(known))
    assert await replicas.all() == urls[:1]
    known.append(urls[1])
    assert await replicas.all() == urls[:1]
    await asyncio.sleep(1.05)
    assert await replicas.all() == urls


async def test_all_who_wait_for_a_look_up_go_on_together() -> None:
    """One by one, a turn of the event loop for each, hundreds of runs under load would wait for seconds."""
    turn, went_on = 0, list[int]()

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def ask() -> None:
        await replicas.all()
        went_on.append(turn)

    looks = list[str]()

    def look(url: str) -> list[str]:
        looks.append(url)
        time.sleep(0.05)
        return [url]

    replicas = Replicas("http://planner:8101", look)
    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(ask() for _ in range(300)))
    counting.cancel()
    assert len(looks) == 1
    assert max(went_on) - min(went_on) < 10


async def test_a_look_up_goes_on_for_others_when_one_who_waits_is_cancelled() -> None:
    replicas = Replicas("http://planner:8101", lambda url: [url] if time.sleep(0.05) is None else [])
    first, second = asyncio.create_task(replicas.all()), asyncio.create_task(replicas.all())
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == ["http://planner:8101"]


def test_a_name_under_tls_is_not_replaced_by_its_addresses() -> None:
    assert addresses("https://localhost:8101") == ["https://localhost:8101"]
    assert "http://127.0.0.1:8101/planner" in addresses("http://localhost:8101/planner")


async def test_a_service_with_a_token_answers_nobody_else(tmp_path: Path) -> None:
    settings = RoleSettings(role_token=TOKEN)  # pyright: ignore[reportArgumentType]
    app = create_app(PLANNER, ScriptedEngine(["Because. Next: conclusion."]), bare(tmp_path), settings)
    with serve(app) as url:
        with httpx.Client(base_url=url, trust_env=False) as client:
            while client.get("/readyz").status_code != 200:
                await asyncio.sleep(0.01)
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"bearer {TOKEN}"}):
                for path in ("/v1/replica", "/metrics", "/docs", "/openapi.json", "/readyz/", "/nowhere"):
                    assert client.get(path, headers=headers).status_code == 401, path
                assert client.post("/v1/plan", headers=headers, content=b"{").status_code == 401
            assert client.get("/healthz").status_code == 200
        async with asking([url]) as roles:
            with pytest.raises(RoleFailure, match="token"):
                await plan(roles, "run-1")
        async with asking([url], TOKEN) as roles:
            assert await plan(roles, "run-1") == "test-1"
        (report,) = await reports({Role.PLANNER: url}, TOKEN)
        assert report.serves is not None
        assert report.serves.stable == "test-1"
        assert "token" in ((await reports({Role.PLANNER: url}))[0].problem or "")


async def test_under_a_path_of_a_balancers_health_checks_are_open_and_nothing_else_is(tmp_path: Path) -> None:
    settings = RoleSettings(role_token=TOKEN)  # pyright: ignore[reportArgumentType]
    app = create_app(PLANNER, ScriptedEngine(["Because. Next: conclusion."]), bare(tmp_path), settings)
    transport = httpx.ASGITransport(app, root_path="/planner")
    async with httpx.AsyncClient(transport=transport, base_url="http://balancer") as client:
        assert (await client.get("/planner/healthz")).status_code == 200
        assert (await client.get("/planner/readyz")).status_code == 503
        for path in ("/v1/replica", "/v1/replicas", "/metrics", "/planner/healthz", "/healthz/", "healthz"):
            assert (await client.get("/planner" + path)).status_code == 401, path
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.get("/planner/v1/replica", headers=headers)).status_code == 200


async def test_a_balancer_tells_of_all_replicas_that_are_behind_it() -> None:
    app = FastAPI()
    serving = Replica(role=Role.PLANNER, generation=3, stable="v1")
    loading = Replica(role=Role.PLANNER, problem="the engine is loading")

    @app.get("/planner/v1/replicas")
    async def replicas() -> dict[str, Replica]:
        return {"10.0.0.1 a": serving, "10.0.0.2 b": loading}

    with serve(app) as url:
        found = await reports({Role.PLANNER: f"{url}/planner", Role.CALLER: f"{url}/planner"})
    planners = [one for one in found if one.role is Role.PLANNER]
    assert [(one.address, one.serves, one.problem) for one in planners] == [
        ("10.0.0.1 a", serving, None),
        ("10.0.0.2 b", loading, "the engine is loading"),
    ]
    assert {one.problem for one in found if one.role is Role.CALLER} == {"is a planner"} and replicas


def test_settings_come_from_files_and_the_environment_goes_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "umi_role_token").write_text(TOKEN + "\n")
    (tmp_path / "umi_database_password").write_text("p@ss/word\n")
    (tmp_path / "umi_port").write_text("9000")
    monkeypatch.setenv("UMI_SETTINGS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("UMI_DATABASE", "postgresql://umi@db/umi")
    monkeypatch.setenv("UMI_PORT", "9001")
    settings = Settings()
    assert settings.shown_to_roles == TOKEN and settings.port == 9001
    assert settings.database_url == "postgresql://umi:p%40ss%2Fword@db/umi"
    assert TOKEN not in repr(settings) and "word" not in repr(settings).replace("database_password", "")
    role = RoleSettings()
    assert role.role_token is not None and role.role_token.get_secret_value() == TOKEN


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        Settings(role_token="short")  # pyright: ignore[reportArgumentType]
