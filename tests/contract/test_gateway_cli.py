"""The commands against a running gateway."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import Response
from typer.testing import CliRunner

from gateway.cli import create_cli, main
from gateway.cli.api import Api
from gateway.cli.up import register_examples
from tests.fakes import call, free_port, plan, serve
from tests.world import World
from umi.roles import Role, Turn


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("gateway"), stack)


def umi(world: World, *arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"UMI_GATEWAY": world.gateway, "COLUMNS": "200"}).invoke(create_cli(), list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_ask_shows_the_steps_and_the_answer(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.answer = "It is [bold]5[/bold].\x1b[2J"
    code, printed = umi(world, "ask", "What is 2 + 3?", "--tool", "add")
    assert code == 0
    assert "add(a=2, b=3)" in printed
    assert '{"sum": 5}' in printed
    assert "It is [bold]5[/bold]. [2J" in printed


def test_the_exit_code_says_how_the_run_ended(world: World) -> None:
    world.script.plans = [plan(Turn.GIVE_UP)]
    assert umi(world, "ask", "q")[0] == 2
    assert umi(world, "ask", "q", "--json")[0] == 2
    world.script.failures = [(Role.PLANNER, Response("broken", 500)), (Role.PLANNER, Response("broken", 500))]
    code, printed = umi(world, "ask", "q")
    assert (code, "planner: answered 500: broken" in printed) == (1, True)
    code, printed = umi(world, "ask", "q", "--json")
    assert (code, json.loads(printed)["role"]) == (1, "planner")
    world.script.plans = None


def test_tools_can_be_listed_and_added_from_a_file(world: World, tmp_path: Path) -> None:
    document = {
        "openapi": "3.1.0",
        "paths": {"/w": {"get": {"operationId": "weather", "summary": "Say the weather", "responses": {}}}},
    }
    file = tmp_path / "weather.json"
    file.write_text(json.dumps(document), "utf-8")
    added = umi(world, "tools", "add", "sky", str(file), "--base-url", "http://127.0.0.1:9")
    assert added == (0, "sky: weather\n")
    code, printed = umi(world, "tools")
    assert code == 0
    assert "Say the weather" in printed
    assert "Add two whole numbers" in printed


def test_every_service_that_the_example_tools_list_is_registered(world: World) -> None:
    from examples.tools.server import create_app

    api = Api(world.start(database="sqlite:///" + world.database.removeprefix("sqlite:///") + ".examples"))
    with serve(create_app()) as tools:
        register_examples(api, tools)
        listed = api.get("/v1/toolsets")
    assert {"countries", "units", "todos"} <= {toolset["name"] for toolset in listed}
    assert all(toolset["base_url"] == f"{tools}/{toolset['name']}" for toolset in listed)


@pytest.mark.parametrize("arguments", [["ask", "q"], ["tools"], ["tools", "add", "x", "http://127.0.0.1:9/x"]])
def test_without_a_gateway_one_sentence_says_so(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr("sys.argv", ["umi", *arguments])
    monkeypatch.setenv("UMI_GATEWAY", url)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"umi: No gateway answers at {url}. Start one with: umi up\n"
