"""Whether a gateway says what it lacks, and how many series it may have."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gateway.events import ToolOutcome
from gateway.metrics import Metrics
from tests.postgres import Postgres
from tests.world import World


def test_a_gateway_without_its_database_is_not_ready_and_says_so(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    name = url.rpartition("/")[2]
    with ExitStack() as stack:
        world = World(tmp_path, stack, url)
        assert ready(world) == {"status": "ok", "database": "ok", "roles": dict.fromkeys(ROLES, "ok")}
        postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        try:
            said = ready(world, 503)
            assert (said["database"], said["status"]) == ("cannot be used; the gateway's log says why", "not ready")
            assert set(said["roles"].values()) == {"ok"}
        finally:
            postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        until = time.monotonic() + 20
        while world.client.get("/readyz").status_code != 200:
            assert time.monotonic() < until


def test_toolsets_beyond_a_number_share_one_label() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.tool(f"t{number}", ToolOutcome.OK, 0.1)
    assert series(metrics) == 201
    assert b'umi_tool_seconds_count{outcome="ok",toolset="(other)"} 300.0' in metrics.render()
    metrics.forget_toolset("t7")
    metrics.tool("t499", ToolOutcome.OK, 0.1)
    assert b'umi_tool_seconds_count{outcome="ok",toolset="t499"} 1.0' in metrics.render()
    assert series(metrics) == 201


ROLES = ("planner", "caller", "summarizer")


def ready(world: World, status: int = 200) -> dict[str, Any]:
    response = world.client.get("/readyz")
    assert response.status_code == status, response.text
    return response.json()


def series(metrics: Metrics) -> int:
    return metrics.render().count(b"umi_tool_seconds_count{")
