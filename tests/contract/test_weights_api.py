"""Weights over HTTP: who may, who loses, what is told; and what the command makes of the same registry."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from gateway.app import create_app
from gateway.cli import create_cli
from gateway.settings import Settings
from gateway.store import Database, Scope, keys
from remote import open_registry
from services.app import create_app as create_role
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from tests.fakes import free_port, serve
from umi.manifest import Kind
from umi.registry import Registry
from umi.roles import Role
from umi.trial import Tally

PLAN = "I need nothing. Next: conclusion."


class Shop:
    """A gateway with a registry that holds v1, v2 and v3 of the planner; every client has a key of its own."""

    def __init__(self, folder: Path, stack: ExitStack, **settings: Any) -> None:
        self._stack, self._folder = stack, folder
        self.place = str(settings.pop("registry", folder / "registry"))
        self.registry: Registry = open_registry(self.place, folder / "cache")
        for version in ("v1", "v2", "v3"):
            self.add(version)
        self.database = f"sqlite:///{folder}/umi.db"
        self.key(Scope.ADMIN)  # from here on, a key is needed
        known = {"database": self.database, "registry": self.place, "drain_seconds": 0}
        self.gateway = stack.enter_context(serve(create_app(Settings(**(known | settings)))))
        self.client = self.of(Scope.WEIGHTS)

    def add(self, version: str, **fields: Any) -> None:
        self.registry.add(bare(self._folder / version, version=version, **fields).directory, Role.PLANNER)

    def key(self, *scopes: Scope) -> str:
        database = Database(self.database)
        database.migrate()
        with database.transaction() as connection:
            made = keys.create(connection, "acme", "release desk", scopes)
        database.close()
        return made

    def of(self, *scopes: Scope) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key(*scopes)}"}
        client = httpx.Client(base_url=f"{self.gateway}/v1", headers=headers, timeout=20, trust_env=False)
        return self._stack.enter_context(client)

    def post(self, path: str, at: int | None = None, **body: Any) -> httpx.Response:
        headers = {"if-match": f'"{at}"'} if at is not None else {}
        return self.client.post(path, json=body, headers=headers)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def shop(tmp_path: Path, stack: ExitStack) -> Shop:
    return Shop(tmp_path, stack)


def problem(response: httpx.Response, status: int, kind: str) -> str:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    assert response.json()["type"] == kind
    return str(response.json()["detail"])


ROUTES = [
    ("GET", "/weights"),
    ("GET", "/weights/status"),
    ("GET", "/weights/planner"),
    ("POST", "/weights/planner/release"),
    ("POST", "/weights/planner/canary"),
    ("POST", "/weights/planner/shadow"),
    ("POST", "/weights/planner/promote"),
    ("POST", "/weights/planner/rollback"),
]


def test_weights_need_their_own_scope_which_allows_nothing_else(shop: Shop) -> None:
    tenant = shop.of(Scope.QUERY, Scope.TOOLS)
    for method, path in ROUTES:
        assert "the scope weights" in problem(tenant.request(method, path, json={"version": "v1"}), 403, "forbidden")
        assert httpx.request(method, f"{shop.gateway}/v1{path}", trust_env=False).status_code == 401
    assert shop.registry.release(Role.PLANNER) is None
    assert shop.of(Scope.ADMIN).get("/weights").status_code == shop.client.get("/weights").status_code == 200
    asked = shop.client.post(f"{shop.gateway}/v1/queries", json={"query": "q"})
    problem(asked, 403, "forbidden")


def test_a_gateway_without_a_registry_says_how_to_give_it_one(tmp_path: Path, stack: ExitStack) -> None:
    shop = Shop(tmp_path, stack)
    other = stack.enter_context(serve(create_app(Settings(database=shop.database, registry=None))))
    for method, path in ROUTES:
        answer = shop.client.request(method, f"{other}/v1{path}", json={"version": "v1"})
        assert "UMI_REGISTRY" in problem(answer, 404, "not-found")


def test_a_version_goes_all_its_way_and_the_history_tells_which_key_and_why(shop: Shop) -> None:
    assert "no release yet" in problem(shop.client.get("/weights/planner"), 404, "not-found")
    assert "no release yet" in problem(shop.post("/weights/planner/canary", version="v2"), 404, "not-found")
    first = shop.post("/weights/planner/release", at=0, version="v1", why="to begin with")
    assert (first.status_code, first.headers["etag"], first.json()["stable"]) == (200, '"1"', "v1")
    assert first.json()["restart"] is None
    canary = shop.post("/weights/planner/canary", at=1, version="v2", share=0.25).json()
    assert (canary["generation"], canary["canary"]) == (2, {"version": "v2", "share": 0.25})
    shadow = shop.post("/weights/planner/shadow", version="v3", share=1).json()
    assert (shadow["canary"]["version"], shadow["shadow"]) == ("v2", {"version": "v3", "share": 1.0})
    uses = {one["version"]: one["use"] for one in shop.client.get("/weights").json()[0]["versions"]}
    assert uses == {"v1": "stable", "v2": "canary (25%)", "v3": "shadow (100%)"}
    assert shop.post("/weights/planner/shadow").json()["shadow"] is None
    assert shop.client.post("/weights/planner/promote").json()["stable"] == "v2"
    assert shop.post("/weights/planner/rollback", at=5, why="worse answers").headers["etag"] == '"6"'
    shown = shop.client.get("/weights/planner")
    assert (shown.headers["etag"], shown.json()["stable"], shown.json()["why"]) == ('"6"', "v1", "worse answers")
    assert [state["action"] for state in shown.json()["history"]] == [
        "release",
        "canary",
        "shadow",
        "shadow",
        "promote",
    ]
    assert shown.json()["history"][0]["why"] == "to begin with"
    database = Database(shop.database)
    with database.transaction() as connection:
        (key,) = (key.id for key in keys.every(connection) if key.scopes == {Scope.WEIGHTS})
    database.close()
    assert shown.json()["who"] == f"key {key} (release desk)"


def test_of_two_operators_who_saw_the_same_release_one_is_answered_412(shop: Shop) -> None:
    shop.post("/weights/planner/release", version="v1")
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: shop.post("/weights/planner/release", 1, version=f"v{number % 3 + 1}"), range(8))
        )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
    lost = next(answer for answer in answers if answer.status_code == 412)
    assert "is at generation 2 (release by key " in problem(lost, 412, "outdated")
    assert (found := shop.registry.release(Role.PLANNER)) and found.generation == 2
    anyway = shop.client.post("/weights/planner/release", json={"version": "v3"}, headers={"if-match": "*"})
    assert anyway.json()["generation"] == 3


@pytest.mark.parametrize("given", ["7", '"x"', 'W/"1"', '"1", "2"', ""])
def test_an_etag_that_is_none_changes_nothing(shop: Shop, given: str) -> None:
    answer = shop.client.post("/weights/planner/release", json={"version": "v1"}, headers={"if-match": given})
    assert "If-Match is the ETag" in problem(answer, 422, "bad-input")
    assert shop.registry.release(Role.PLANNER) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/weights/planner/release", {"version": "../../etc"}),
        ("/weights/planner/release", {"version": "v1", "who": "somebody else"}),
        ("/weights/planner/release", {}),
        ("/weights/planner/canary", {"version": "v2", "share": 0}),
        ("/weights/planner/canary", {"version": "v2", "share": 1}),
        ("/weights/planner/canary", {"version": "v1"}),
        ("/weights/planner/shadow", {"version": "v2", "share": 1.5}),
        ("/weights/planner/shadow", {}),
        ("/weights/planner/promote", {}),
        ("/weights/planner/rollback", {"why": "x" * 501}),
        ("/weights/critic/release", {"version": "v1"}),
    ],
)
def test_what_makes_no_sense_is_a_problem_and_changes_nothing(shop: Shop, path: str, body: dict[str, Any]) -> None:
    shop.post("/weights/planner/release", version="v1")
    problem(shop.client.post(path, json=body), 422, "bad-input")
    assert (found := shop.registry.release(Role.PLANNER)) and found.generation == 1


def test_a_broken_version_is_listed_with_the_reason_and_cannot_be_released(shop: Shop) -> None:
    weights = Path(shop.place) / "versions" / "planner" / "v1" / "adapter_model.safetensors"
    weights.write_bytes(b"flipped")
    assert "content differs" in problem(shop.post("/weights/planner/release", version="v1"), 422, "bad-checkpoint")
    weights.unlink()
    listed = shop.client.get("/weights").json()[0]["versions"]
    assert "missing" in next(one["problem"] for one in listed if one["version"] == "v1")
    assert "no such version" in problem(shop.post("/weights/planner/release", version="v9"), 422, "bad-checkpoint")
    problem(shop.client.get("/weights/planner"), 404, "not-found")


def test_another_kind_of_weights_is_announced_as_a_restart(shop: Shop) -> None:
    shop.add("f1", kind=Kind.FULL)
    shop.post("/weights/planner/release", version="v1")
    assert "restart every planner" in shop.post("/weights/planner/release", version="f1").json()["restart"]
    assert "neither be a canary" in problem(shop.post("/weights/planner/canary", version="v2"), 422, "bad-input")


def test_the_command_and_the_api_are_about_the_same_releases(shop: Shop) -> None:
    runner = CliRunner(env={"UMI_REGISTRY": shop.place, "COLUMNS": "200"})
    assert runner.invoke(create_cli(), ["weights", "release", "planner", "v1", "--who", "ada"]).exit_code == 0
    assert shop.client.get("/weights/planner").json()["who"] == "ada"
    shop.post("/weights/planner/canary", at=1, version="v2", why="from afar")
    assert "from afar" in runner.invoke(create_cli(), ["weights", "show", "planner"]).output
    lost = runner.invoke(create_cli(), ["weights", "promote", "planner", "--generation", "1"])
    assert "is at generation 2 (canary by key " in str(lost.exception)


def test_a_registry_on_a_url_is_served_alike_and_an_outage_is_a_503(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path, stack, registry=f"memory://{uuid4()}/weights")
    assert shop.post("/weights/planner/release", at=0, version="v1").headers["etag"] == '"1"'
    problem(shop.post("/weights/planner/release", at=0, version="v2"), 412, "outdated")
    assert shop.client.get("/weights").json()[0]["release"]["stable"] == "v1"
    assert not (tmp_path / "cache").exists(), "no weights are fetched to be released"

    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to the bucket")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    for answer in (
        shop.client.get("/weights/planner"),
        shop.client.get("/weights/status"),
        shop.post("/weights/planner/rollback"),
    ):
        assert "no route to the bucket" in problem(answer, 503, "no-registry")


Resolve = Callable[..., Any]


def named(name: str, addresses: list[str], before: Resolve) -> Resolve:
    """getaddrinfo of a world in which `name` stands for `addresses`."""

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != name:
            return before(host, port, *rest, **more)
        return [found for address in addresses for found in before(address, port, *rest, **more)]

    return resolve


def test_status_asks_every_address_that_a_roles_name_stands_for(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    name = f"http://planner.test:{port}"
    shop = Shop(tmp_path, stack, planner_url=name, caller_url=name, summarizer_url="http://127.0.0.1:9")
    shop.post("/weights/planner/release", version="v1")
    apps = [create_role(PLANNER, ScriptedEngine([PLAN]), shop.registry, RoleSettings()) for _ in range(2)]
    replicas = [stack.enter_context(serve(app, port, f"127.0.0.{number}")) for number, app in enumerate(apps, 1)]
    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"]
    monkeypatch.setattr(socket, "getaddrinfo", named("planner.test", addresses, socket.getaddrinfo))
    body = {"run_id": "r", "trajectory": {"query": "q", "tools": [], "steps": []}}
    for url in replicas:
        while httpx.get(f"{url}/v1/replica", trust_env=False).json()["generation"] != 1:
            time.sleep(0.02)
        assert httpx.post(f"{url}/v1/plan", json=body, trust_env=False).status_code == 200
    found = shop.client.get("/weights/status").json()
    assert (found["generations"]["planner"], found["converged"]) == (1, False)
    planners = {one["address"]: one for one in found["replicas"] if one["role"] == "planner"}
    assert list(planners) == [f"127.0.0.{number}:{port}" for number in (1, 2, 3)]
    assert [one["behind"] for one in planners.values()] == [False, False, True]
    assert "cannot be asked" in planners[f"127.0.0.3:{port}"]["problem"]
    assert planners[f"127.0.0.2:{port}"]["serves"]["stable"] == "v1"
    assert {one["problem"] for one in found["replicas"] if one["role"] == "caller"} >= {"is a planner"}
    (count,) = found["counts"]
    assert (count["version"], count["use"], Tally(**count["done"]).turns) == ("v1", "stable", 2)

    environment = {"UMI_REGISTRY": shop.place, "UMI_PLANNER_URL": name, "COLUMNS": "200"}
    others = {"UMI_CALLER_URL": name, "UMI_SUMMARIZER_URL": name}
    told = CliRunner(env={**environment, **others}).invoke(create_cli(), ["weights", "status"])
    assert told.exit_code == 1
    assert [address in told.output for address in planners] == [True] * 3


@pytest.mark.parametrize("path", ["/weights/status", "/weights/planner"])
def test_while_names_and_registry_are_waited_for_others_are_served(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    waits, go_on = threading.Event(), threading.Event()
    shop = Shop(tmp_path, stack, registry=f"memory://{uuid4()}/weights", planner_url="http://planner.test:9")
    shop.post("/weights/planner/release", version="v1")
    resolve, read = socket.getaddrinfo, MemoryFileSystem.cat_file

    def wait() -> None:
        waits.set()
        go_on.wait(20)

    def slow_name(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "planner.test":
            wait()
        return resolve("127.0.0.1" if host == "planner.test" else host, *rest, **more)

    def slow_read(*rest: Any, **more: Any) -> Any:
        wait()
        return read(*rest, **more)

    if path == "/weights/status":
        monkeypatch.setattr(socket, "getaddrinfo", slow_name)
    else:
        monkeypatch.setattr(MemoryFileSystem, "cat_file", slow_read)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(shop.client.get, path)
        assert waits.wait(10)
        assert httpx.get(f"{shop.gateway}/healthz", timeout=5, trust_env=False).status_code == 200
        assert not asked.done()
        go_on.set()
        assert asked.result().status_code == 200
