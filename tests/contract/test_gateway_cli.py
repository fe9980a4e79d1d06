"""The commands against a running gateway."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from gateway.cli import create_cli, main
from gateway.cli.api import Api, Failed
from gateway.cli.up import register_examples
from services.app import create_app as create_role
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from tests.fakes import broken, call, free_port, plan, serve
from tests.world import World
from umi.manifest import Kind
from umi.registry import Registry
from umi.release import Action, Change, first
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
    world.script.failures = [(Role.PLANNER, broken("broken")), (Role.PLANNER, broken("broken"))]
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


def test_what_is_not_wholly_usable_is_told_when_tools_are_added(world: World, tmp_path: Path) -> None:
    paths = {"/fine": {"get": {"operationId": "fine"}}, "/{city}": {"get": {"operationId": "vague"}}, "/bad": "none"}
    file = tmp_path / "partly.json"
    file.write_text(json.dumps({"openapi": "3.1.0", "paths": paths}), "utf-8")
    code, printed = umi(world, "tools", "add", "partly", str(file), "--base-url", "http://127.0.0.1:9")
    assert (code, printed.splitlines()) == (
        0,
        [
            "partly: fine, vague",
            "1 imported, 1 with loss, 1 refused",
            "refused: /bad: /bad is not an object",
        ],
    )
    code, printed = umi(world, "tools", "show", "partly")
    assert (code, printed.split("\n\n")) == (
        0,
        [
            "partly 1, http://127.0.0.1:9/: 1 imported, 1 with loss, 1 refused",
            "fine(): \n  GET /fine",
            "vague(city: string): \n  GET /{city}\n  lost: path parameter not described: city",
            "/bad\n  refused: /bad is not an object\n",
        ],
    )
    with pytest.raises(Failed, match="no version 2 of a toolset 'partly' is kept"):
        umi(world, "tools", "show", "partly", "--version", "2")
    assert umi(world, "tools", "remove", "partly") == (0, "")
    with pytest.raises(Failed, match="no toolset is named 'partly'"):
        umi(world, "tools", "show", "partly")


def test_operations_are_chosen_when_tools_are_added(world: World, tmp_path: Path) -> None:
    def operation(name: str, *tags: str) -> dict[str, object]:
        return {"operationId": name, "tags": list(tags), "deprecated": name == "old"}

    paths = {
        "/pets": {"get": operation("pets", "pet"), "post": operation("sell", "pet", "write")},
        "/pets/old": {"get": operation("old", "pet")},
        "/admin/users": {"get": operation("users", "admin")},
    }
    file = tmp_path / "shop.json"
    file.write_text(json.dumps({"openapi": "3.1.0", "paths": paths}), "utf-8")

    def added(*options: str) -> set[str]:
        code, printed = umi(world, "tools", "import", "shop", str(file), "--base-url", "http://127.0.0.1:9", *options)
        assert code == 0
        return set(printed.splitlines()[0].removeprefix("shop: ").split(", "))

    assert added() == {"pets", "sell", "users"}
    assert added("--deprecated", "--path", "/pets*") == {"pets", "sell", "old"}
    assert added("--tag", "pet", "--not-tag", "write") == {"pets"}
    assert added("--not-path", "/pets*") == {"users"}
    assert added("--method", "post") == {"sell"}
    assert "/admin/users\n  left out: the method GET is not selected" in umi(world, "tools", "show", "shop")[1]
    with pytest.raises(Failed, match="no operation is usable; GET /pets: none of its tags is selected"):
        added("--tag", "nobody")
    with pytest.raises(Failed, match=r"select\.methods"):
        added("--method", "fetch")
    assert umi(world, "tools", "remove", "shop") == (0, "")


def test_the_tools_that_a_query_would_be_offered_can_be_listed(world: World) -> None:
    gateway = world.start(max_offered=1)
    code, printed = umi(world, "tools", "--query", "please add whole numbers", "--gateway", gateway)
    assert code == 0
    assert ("Add two whole numbers" in printed, "Keep a note" in printed) == (True, False)


def test_runs_can_be_listed_shown_and_cancelled(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    answered = world.run(query="What is 2 + 3, please?")["run_id"]
    code, printed = umi(world, "runs", "list", "--limit", "1")
    assert code == 0
    assert (answered in printed, "answered" in printed, "What is 2 + 3, please?" in printed) == (True, True, True)
    assert "add(a=2, b=3)" in umi(world, "runs", "show", answered)[1]
    world.script.delays[Role.PLANNER] = 30
    running = world.ask(background=True).json()["run_id"]
    assert umi(world, "runs", "cancel", running) == (0, f"{running}: cancelled\n")
    world.script.delays.clear()


@pytest.fixture
def guarded(world: World) -> Iterator[World]:
    """Notes are made once a person has approved."""
    added = umi(world, "tools", "add", "test", f"{world.tools}/openapi.json", "--policy", "needs_approval")
    assert added[0] == 0
    world.called.clear()
    world.script.calls = [call("make_note", text="buy milk")]
    yield world
    world.reset()


def test_without_a_terminal_a_call_that_needs_approval_is_left_with_the_command_that_approves_it(
    guarded: World,
) -> None:
    code, printed = umi(guarded, "ask", "Note: buy milk")
    assert code == 3
    assert f'? needs approval: POST {guarded.tools}/notes {{"text": "buy milk"}}' in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("To go on: umi runs approve ")]
    run_id = line.split()[6]
    assert run_id in umi(guarded, "runs", "list", "--outcome", "requires_action")[1]
    assert guarded.called == []
    code, printed = umi(guarded, "runs", "approve", run_id)
    assert (code, printed) == (0, f"{run_id}: step 1 approved; how it goes on: umi runs show {run_id}\n")
    printed = umi(guarded, "runs", "show", run_id)[1]
    assert ("   approved" in printed, '{"kept": "buy milk"}' in printed, guarded.called) == (True, True, ["/notes"])
    with pytest.raises(Failed, match="does not wait for approval: it is answered"):
        umi(guarded, "runs", "approve", run_id)
    with pytest.raises(Failed, match="step 1 was approved already"):
        umi(guarded, "runs", "approve", run_id, "--step", "1")


def test_a_call_can_be_refused_with_a_reason(guarded: World) -> None:
    code, printed = umi(guarded, "ask", "Note: buy milk", "--json")
    run = json.loads(printed)
    assert (code, run["status"]) == (3, "requires_action")
    refused = umi(guarded, "runs", "approve", run["run_id"], "--refuse", "--reason", "we have milk")
    assert refused[1].startswith(f"{run['run_id']}: step 1 refused;")
    printed = umi(guarded, "runs", "show", run["run_id"])[1]
    assert "the user refused this call: we have milk" in printed
    assert guarded.called == []


@pytest.mark.parametrize(("key", "decided", "called"), [("y", "approved", ["/notes"]), ("n", "refused", [])])
def test_on_a_terminal_the_person_is_asked_and_the_run_goes_on(
    guarded: World, key: str, decided: str, called: list[str]
) -> None:
    code, printed = at_a_terminal(guarded, f"{key}\n", "ask", "Note: buy milk")
    assert (code, guarded.called) == (0, called)
    assert ("Send it?" in printed, f"   {decided}" in printed) == (True, True)


def test_on_a_terminal_a_text_stands_there_while_it_is_written(world: World) -> None:
    world.script.seconds_per_word, world.script.answer = 0.01, "It is done in time."
    code, printed = at_a_terminal(world, "", "ask", "q", TERM="xterm")
    assert (code, printed.count("It is done in time.")) == (0, 3)  # as it was written, as it was taken away, as it is
    assert "It is done in\x1b" in printed
    assert "It is done in\n" not in umi(world, "ask", "q")[1]


def at_a_terminal(world: World, typed: str, *arguments: str, **more: str) -> tuple[int, str]:
    """The command with somebody at its terminal, who types when asked; `more` is its environment's."""
    ours, its = pty.openpty()
    environment = {**os.environ, "UMI_GATEWAY": world.gateway, "COLUMNS": "200", "TERM": "dumb", **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", *arguments], stdin=its, stdout=its, stderr=its, env=environment
    )
    os.close(its)
    printed = ""
    with contextlib.suppress(OSError):  # what Linux says once nobody has the other end open
        while piece := os.read(ours, 4096):
            printed += piece.decode()
            if typed and "[y/N]" in printed:
                os.write(ours, typed.encode())
                typed = ""
    os.close(ours)
    return process.wait(60), printed


def test_a_policy_is_said_when_tools_are_added(world: World) -> None:
    arguments = ["tools", "add", "test", f"{world.tools}/openapi.json", "--policy", "read_only"]
    code, printed = umi(world, *arguments, "--tool-policy", "make_note=needs_approval")
    assert (code, "left out, as they may change something: make_slow_note\n" in printed) == (0, True)
    listed = {line.split()[0]: line for line in umi(world, "tools")[1].splitlines()[1:]}
    assert ("needs approval" in listed["make_note"], "needs approval" in listed["add"]) == (True, False)
    with pytest.raises(Failed, match="allowed, read_only, needs_approval"):
        umi(world, *arguments, "--tool-policy", "make_note=maybe")
    world.reset()


def test_old_runs_can_be_forgotten(world: World) -> None:
    run_id = world.run()["run_id"]
    assert umi(world, "runs", "prune", "--older-than", "1", "--database", world.database) == (0, "0 runs forgotten\n")
    code, printed = umi(world, "runs", "prune", "--older-than", "0", "--database", world.database)
    assert (code, printed.endswith(" runs forgotten\n"), printed.startswith("0 ")) == (0, True, False)
    assert world.client.get(f"/v1/runs/{run_id}").status_code == 404


def test_a_version_goes_from_the_shelf_through_a_trial_to_all_runs_and_back(tmp_path: Path) -> None:
    runner = CliRunner(env={"UMI_REGISTRY": str(tmp_path / "registry"), "COLUMNS": "200"})

    def weights(*arguments: str) -> str:
        result = runner.invoke(create_cli(), ["weights", *arguments])
        if isinstance(result.exception, Failed):
            return f"refused: {result.exception}"
        assert result.exception is None, result.output
        return result.output

    for version in ("v1", "v2"):
        printed = weights("add", "caller", str(bare(tmp_path / version, version=version).directory))
        assert f"umi weights release caller {version}" in printed
    assert "no release yet" in weights("canary", "caller", "v2")
    assert weights("release", "caller", "v1") == "caller: generation 1 serves v1\n"
    assert weights("canary", "caller", "v2", "--share", "0.1") == (
        "caller: generation 2 serves v1, v2 on 10% of the runs\n"
    )
    listed = weights("list")
    assert ("stable" in listed, "canary (10%)" in listed) == (True, True)
    assert "is at generation 2 (canary by " in weights("promote", "caller", "--generation", "1")
    assert weights("promote", "caller", "--who", "ada", "--why", "twice as fast") == "caller: generation 3 serves v2\n"
    assert weights("rollback", "caller") == "caller: generation 4 serves v1\n"
    shown = weights("show", "caller")
    assert ("ada" in shown, "twice as fast" in shown) == (True, True)
    assert "v9: there is no such version" in weights("release", "caller", "v9")
    again = weights("add", "caller", str(tmp_path / "v2"), "--release")
    assert again == "caller: generation 5 serves v2\n"
    weights("add", "caller", str(bare(tmp_path / "v3", version="v3", kind=Kind.FULL).directory))
    said = weights("release", "caller", "v3")
    assert "v3 (full, SmolLM2-135M-Instruct) needs an engine of its own: restart every caller" in said
    assert "neither be a canary" in weights("canary", "caller", "v2")


def test_a_watched_canary_that_fails_more_often_is_rolled_back_with_the_reason(tmp_path: Path) -> None:
    shelf = Registry(tmp_path / "registry")
    for version in ("v1", "v2"):
        shelf.add(bare(tmp_path / version, version=version).directory, Role.PLANNER)
    by = Change(action=Action.RELEASE, who="ada")
    shelf.change(Role.PLANNER, lambda _: first(Role.PLANNER, "v1", by))
    engine = ScriptedEngine(lambda *_: "nonsense" if engine.versions[-1] == "v2" else "Next: conclusion.")
    body = {"trajectory": {"query": "q", "tools": [], "steps": []}}
    with (
        serve(create_role(PLANNER, engine, shelf, RoleSettings())) as planner,
        httpx.Client(base_url=planner) as client,
    ):
        runner = CliRunner(env={"UMI_REGISTRY": shelf.place, "COLUMNS": "200", "UMI_PLANNER_URL": planner})
        result = runner.invoke(create_cli(), ["weights", "canary", "planner", "v2", "--share", "0.5"])
        assert result.exit_code == 0, result.output
        while client.get("/v1/replica").json()["canary"] != "v2":
            time.sleep(0.05)
        codes = {client.post("/v1/plan", json={"run_id": f"run-{n}", **body}).status_code for n in range(40)}
        assert codes == {200, 502}
        result = runner.invoke(create_cli(), ["weights", "watch", "planner"])
    assert result.exit_code == 1
    assert "v2: roll back: fails more often" in result.output
    assert "texts unusable" in result.output
    release = shelf.release(Role.PLANNER)
    assert release is not None
    assert (release.stable, release.canary, release.who) == ("v1", None, "umi weights watch")
    assert "fails more often" in release.why


def test_a_canary_that_is_left_to_itself_is_promoted_with_the_reason(tmp_path: Path) -> None:
    shelf = Registry(tmp_path / "registry")
    for version in ("v1", "v2"):
        shelf.add(bare(tmp_path / version, version=version).directory, Role.PLANNER)
    shelf.change(Role.PLANNER, lambda _: first(Role.PLANNER, "v1", Change(action=Action.RELEASE, who="ada")))
    app = create_role(PLANNER, ScriptedEngine(["Next: conclusion."]), shelf, RoleSettings())
    body = {"trajectory": {"query": "q", "tools": [], "steps": []}}
    with serve(app) as planner, httpx.Client(base_url=planner) as client, ThreadPoolExecutor(1) as pool:
        runner = CliRunner(env={"UMI_REGISTRY": shelf.place, "COLUMNS": "200", "UMI_PLANNER_URL": planner})
        canary = ["weights", "canary", "planner", "v2", "--share", "0.5", "--auto", "--least", "5", "--worse", "0.5"]
        decided = pool.submit(runner.invoke, create_cli(), canary)
        number = 0
        while not decided.done():
            client.post("/v1/plan", json={"run_id": f"run-{(number := number + 1)}", **body})
            time.sleep(0.02)
        assert decided.result().exit_code == 0, decided.result().output
    assert "v2: promote: as good as stable" in decided.result().output
    release = shelf.release(Role.PLANNER)
    assert release is not None
    assert (release.stable, release.canary, release.who) == ("v2", None, "umi weights watch")
    assert "as good as stable" in release.why


def test_status_says_what_every_replica_serves_and_fails_while_one_is_behind(tmp_path: Path) -> None:
    shelf = Registry(tmp_path / "registry")
    shelf.add(bare(tmp_path / "v1", version="v1").directory, Role.PLANNER)
    shelf.change(Role.PLANNER, lambda _: first(Role.PLANNER, "v1", Change(action=Action.RELEASE, who="ada")))
    app = create_role(PLANNER, ScriptedEngine(["Next: conclusion."]), shelf, RoleSettings())
    with serve(app) as planner:
        urls = {"UMI_PLANNER_URL": planner, "UMI_CALLER_URL": planner, "UMI_SUMMARIZER_URL": "http://127.0.0.1:9"}
        runner = CliRunner(env={"UMI_REGISTRY": shelf.place, "COLUMNS": "200", **urls})
        result = runner.invoke(create_cli(), ["weights", "status", "--wait", "1"])
    assert result.exit_code == 1
    lines = {line.split()[0]: line for line in result.output.splitlines()[1:]}
    assert ("v1" in lines["planner"], "serving" in lines["planner"]) == (True, True)
    assert "is a planner" in lines["caller"]
    assert "cannot be asked" in lines["summarizer"]


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
