"""What a replica of deploy/ray holds and when Serve may send to it. Without a cluster, where Ray is installed."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from umi.roles import Role
from umi.trajectory import Trajectory

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: make test-ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TOKEN = "a-token-of-some-length"
PLAN = "Because. Next: conclusion."


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    bare(tmp_path / "planner", version="v1")
    (tmp_path / "planner" / "adapter_config.json").write_text('{"r": 16}')
    monkeypatch.setenv("UMI_CHECKPOINT", str(tmp_path / "planner"))
    monkeypatch.setenv("UMI_ROLE_TOKEN", TOKEN)
    monkeypatch.setenv("UMI_DATABASE", f"sqlite:///{tmp_path}/umi.db")
    from deploy.ray import apps

    monkeypatch.setattr(apps, "environment", lambda settings: None)  # and watch_children: this process is not a replica
    monkeypatch.setattr(apps, "watch_children", lambda: None)
    monkeypatch.setattr(apps.logs, "configure", lambda level, style: None)
    return apps


@asynccontextmanager
async def replica(deployment: Any, *args: Any) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    """What is ours of a replica, without what Serve puts around it, and a client under the path of its application."""
    ours = deployment.func_or_class.__mro__[1]
    one = ours(*args)
    app = one.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, root_path="/planner")
        async with httpx.AsyncClient(transport=transport, base_url="http://proxy/planner") as client:
            yield one, client


async def test_a_role_counts_once_its_engine_can_be_asked_and_is_ill_once_that_has_died(apps: Any) -> None:
    engine = ScriptedEngine([PLAN], seconds_to_load=0.3)

    def make(settings: RoleSettings) -> ScriptedEngine:
        return engine

    async with replica(apps.RoleReplica, Role.PLANNER, make) as (one, client):
        assert (await client.get("/readyz")).status_code == 503
        await asyncio.wait_for(one.check_health(), 10)
        assert (await client.get("/readyz")).status_code == 200
        body = {"run_id": "r", "trajectory": Trajectory(query="Is it?", tools=()).model_dump(mode="json")}
        assert (await client.post("/v1/plan", json=body)).status_code == 401
        reply = await client.post("/v1/plan", json=body, headers={"authorization": f"Bearer {TOKEN}"})
        assert (reply.status_code, reply.json()["version"]) == (200, "v1")
        engine.dead = True
        with pytest.raises(RuntimeError, match="planner: the scripted engine is dead"):
            await one.check_health()


async def test_a_role_whose_engine_cannot_be_loaded_is_never_ready(apps: Any) -> None:
    def make(settings: RoleSettings) -> ScriptedEngine:
        return ScriptedEngine([PLAN], failure="no memory")

    async with replica(apps.RoleReplica, Role.PLANNER, make) as (one, _):
        with pytest.raises(RuntimeError, match="no memory"):
            await asyncio.wait_for(one.check_health(), 10)


async def test_a_role_tells_of_every_replica_also_of_one_that_cannot_be_asked(
    apps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handle:
        """Of two replicas, the second of which is gone."""

        def broadcast(self, method: str) -> "Handle":
            assert method == "told"
            return self

        async def results_async(self, timeout_s: float, return_exceptions: bool) -> list[Any]:
            assert return_exceptions and timeout_s < 2
            return [await one.told(), ConnectionError("gone")]

    here = type("Here", (), {"deployment": "planner", "app_name": "planner", "replica_tag": "abc"})
    monkeypatch.setattr(apps.serve, "get_replica_context", here)
    monkeypatch.setattr(apps.serve, "get_deployment_handle", lambda deployment, app: Handle())
    monkeypatch.setattr(apps.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    async with replica(apps.RoleReplica, Role.PLANNER, lambda settings: ScriptedEngine([PLAN])) as (one, client):
        await asyncio.wait_for(one.check_health(), 10)
        assert (await client.get("/v1/replicas")).status_code == 401
        said = (await client.get("/v1/replicas", headers={"authorization": f"Bearer {TOKEN}"})).json()
    assert list(said) == ["10.0.0.1 abc", "replica 1"]
    assert said["10.0.0.1 abc"]["stable"] == "v1" and "cannot be asked" in said["replica 1"]["problem"]


async def test_there_is_no_gateway_without_a_key_and_one_that_has_lives(
    apps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="umi keys create"):
        async with replica(apps.GatewayReplica):
            pass
    monkeypatch.setenv("UMI_FIRST_KEY", "umi_0123abcd_" + "k" * 43)
    async with replica(apps.GatewayReplica) as (one, client):
        await one.check_health()
        assert (await client.get("/v1/runs")).status_code == 401


async def test_a_wrong_setting_is_named_and_its_value_is_not_shown(apps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMI_ROLE_TOKEN", "short-secret")
    with pytest.raises(ValueError, match=r"UMI_ROLE_TOKEN: .*at least 16") as raised:
        async with replica(apps.RoleReplica, Role.PLANNER, lambda settings: ScriptedEngine([PLAN])):
            pass
    assert "short-secret" not in str(raised.value) and raised.value.__cause__ is None
