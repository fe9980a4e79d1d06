"""Every operation of the example tools, called as OpenAPI and as MCP with the same arguments: the results are equal."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from examples.tools.server import create_app, create_services
from gateway.egress.client import Egress, Limits
from gateway.egress.dispatch import Dispatcher, Reply
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.secrets import Secrets
from gateway.mcp.servers import server_of
from gateway.mcp.sessions import Sessions
from gateway.store import McpOptions, ToolsetOptions, ToolsetRow
from gateway.tools.calls import Calls
from gateway.tools.catalogue import Tool, Toolset
from gateway.tools.fetch import with_server
from gateway.tools.toolsets import read_toolset
from tests.fakes import serve
from umi.trajectory import JsonObject

LIMITS = Limits(seconds=60.0, connect_seconds=30.0, read_seconds=60.0)
LOOPBACK = ("127.0.0.0/8",)
WORDS = (sys.executable, "-m", "examples.tools", "--mcp")
DAY = "2026-05-04"
CALLS: list[tuple[str, JsonObject]] = [
    ("country_facts", {"country": "Japan"}),
    ("country_facts", {"country": "Jappan"}),
    ("country_neighbours", {"country": "Austria"}),
    ("largest_countries", {"continent": "Europe", "by": "area", "limit": 3}),
    ("currency_facts", {"currency": "EUR"}),
    ("language_facts", {"language": "French"}),
    ("city_facts", {"city": "Oslo"}),
    ("city_distance", {"from_city": "Madrid", "to_city": "Tokyo", "unit": "miles"}),
    ("largest_cities", {"country": "Norway", "limit": 2}),
    ("nearest_city", {"latitude": 48.2, "longitude": 16.4}),
    ("airport_facts", {"code": "VIE"}),
    ("airports_of_city", {"city": "Vienna"}),
    ("airport_distance", {"code": "VIE", "other": "OSL"}),
    ("holiday_on", {"country": "Austria", "date": "2026-10-26"}),
    ("next_holiday", {"country": "Austria", "after": DAY}),
    ("find_holiday", {"country": "Germany", "year": 2026, "name": "Easter Monday"}),
    ("count_holidays", {"country": "Norway", "year": 2026}),
    ("current_time", {"timezone": "Asia/Tokyo"}),
    ("convert_time", {"time": f"{DAY} 14:30", "from_timezone": "Europe/Vienna", "to_timezone": "Asia/Tokyo"}),
    ("time_difference", {"from_timezone": "Europe/Vienna", "to_timezone": "Asia/Tokyo", "date": DAY}),
    ("weekday", {"date": DAY}),
    ("days_between", {"start": DAY, "end": "2026-12-24"}),
    ("add_days", {"date": DAY, "days": -40}),
    ("convert_units", {"value": 3.5, "from_unit": "miles", "to_unit": "km"}),
    ("calculate", {"expression": "2 * (3 + 4) ** 2"}),
    ("solve_equation", {"equation": "x**2 - 4 = 0", "variable": "x"}),
    ("prime_factors", {"number": 2027}),
    ("statistics", {"numbers": [3, 1, 4, 1, 5]}),
    ("sun_times", {"city": "Vienna", "date": DAY}),
    ("moon_phase", {"date": DAY}),
    ("element_facts", {"element": "Gold"}),
    ("element_by_number", {"number": 6}),
    ("molar_mass", {"formula": "H2O"}),
    ("add_todo", {"title": "buy milk & bread / now", "due": DAY}),
    ("add_todo", {"title": "call é"}),
    ("complete_todo", {"id": 1}),
    ("list_todos", {"status": "all"}),
    ("delete_todo", {"id": 2}),
    ("delete_todo", {"id": 77}),
    ("free_rooms", {"date": DAY, "hour": 14}),
    ("book_room", {"room": "Dune", "date": DAY, "hour": 14, "name": "Retro"}),
    ("book_room", {"room": "Dune", "date": DAY, "hour": 14, "name": "Again"}),
    ("cancel_booking", {"booking_id": 5}),
]
WRONG = ("Jappan", 77, "Again")
"""Arguments that the services have nothing for."""
NOW = "current_time"


@asynccontextmanager
async def calling(commands: Any = (), limits: Limits = LIMITS) -> AsyncGenerator[tuple[Calls, Sessions]]:
    hosts = Hosts(concurrency=8, failures=1000, rest=1.0)

    async def relist(*_: Any) -> None:
        return None

    async with Egress(hosts) as egress:
        keyring = Keyring(egress, Secrets())
        pool = Sessions(egress, keyring, hosts, Secrets(), limits, limits, commands, relist)
        async with pool as sessions:
            yield Calls(Dispatcher(egress, keyring, limits), sessions), sessions


def as_openapi(base: str) -> list[Toolset]:
    found: list[Toolset] = []
    with httpx.Client(base_url=base, trust_env=False, timeout=60) as client:
        for name, path in client.get("/").json().items():
            document = with_server(client.get(path).json(), base + path)
            found.append(read_toolset(ToolsetRow(name=name, url=base + path, document=document), LOOPBACK))
    return found


async def as_mcp(sessions: Sessions, **given: Any) -> Toolset:
    row = ToolsetRow(name="m", url=given.pop("url", None), document={}, options=ToolsetOptions(mcp=McpOptions(**given)))
    listing = await sessions.listing(server_of(row, LOOPBACK))
    return read_toolset(row.model_copy(update={"document": listing}), LOOPBACK)


async def replies(calls: Calls, *toolsets: Toolset) -> list[Reply]:
    tools: dict[str, Tool] = {tool.name: tool for toolset in toolsets for tool in toolset.tools}
    assert set(tools) == {name for name, _ in CALLS}
    assert len(tools) == 39
    return [await calls.send(tools[name].request(arguments), tools[name]) for name, arguments in CALLS]


@pytest.mark.parametrize("transport", ["streamable HTTP", "stdio"])
async def test_every_operation_gives_equal_results_as_openapi_and_as_mcp(transport: str) -> None:
    with serve(create_app(create_services())) as one, serve(create_app(create_services())) as other:
        async with calling([WORDS]) as (calls, sessions):
            over_openapi = await replies(calls, *await asyncio.to_thread(as_openapi, one))
            where = {"command": WORDS} if transport == "stdio" else {"url": f"{other}/mcp"}
            over_mcp = await replies(calls, await as_mcp(sessions, **where))
    for (name, arguments), left, right in zip(CALLS, over_openapi, over_mcp, strict=True):
        is_wrong = any(value in WRONG for value in arguments.values())
        assert left.outcome == right.outcome == ("error" if is_wrong else "ok"), (name, left, right)
        if is_wrong:
            assert left.observation.partition(": ")[2] == right.observation.partition(": ")[2], name
        elif name != NOW:  # a minute may have passed
            assert left.observation == right.observation, name


async def test_both_are_shortened_to_as_many_characters_as_the_gateway_is_told() -> None:
    with serve(create_app(create_services())) as one, serve(create_app(create_services())) as other:
        async with calling(limits=replace(LIMITS, characters=100)) as (calls, sessions):
            over_openapi = await replies(calls, *await asyncio.to_thread(as_openapi, one))
            over_mcp = await replies(calls, await as_mcp(sessions, url=f"{other}/mcp"))
    sizes = [len(reply.observation) for reply in (*over_openapi, *over_mcp)]
    assert 100 < max(sizes) <= 100 + len("… (1000 characters)"), "what is left out is noted"
