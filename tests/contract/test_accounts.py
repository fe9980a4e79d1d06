"""Accounts: keys, scopes, tenants that do not see each other, limits. Over HTTP, and through the commands."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway.__main__ import has_keys, is_loopback
from gateway.cli import create_cli
from gateway.settings import Settings
from gateway.store import Database, Scope, keys
from tests.fakes import call, free_port
from tests.world import World
from umi.roles import Role

ALL = (Scope.QUERY, Scope.TOOLS)


class Tenants(World):
    """A world whose gateway wants keys; `client` is the tenant acme."""

    def key(self, tenant: str, *scopes: Scope, **limits: int) -> str:
        database = Database(self.database)
        database.migrate()
        with database.transaction() as connection:
            made = keys.create(connection, tenant, "test", scopes or ALL, **limits)
        database.close()
        return made

    def reset(self) -> None:
        self.client.headers["authorization"] = f"Bearer {self.key('acme')}"
        time.sleep(1.1)  # until a gateway that has served without keys looks again
        super().reset()

    def of(self, tenant: str, *scopes: Scope, **limits: int) -> httpx.Client:
        """A client with a key of its own."""
        headers = {"authorization": f"Bearer {self.key(tenant, *scopes, **limits)}"}
        client = httpx.Client(base_url=self.gateway, headers=headers, timeout=20, trust_env=False)
        return self._stack.enter_context(client)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with ExitStack() as stack:
        yield Tenants(tmp_path_factory.mktemp("accounts"), stack)


@pytest.fixture
def world(shared: Tenants) -> Tenants:
    shared.script.reset()
    shared.called.clear()
    return shared


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["type"] == kind
    return response.json()


ROUTES = [
    ("POST", "/v1/queries"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/{run}"),
    ("GET", "/v1/runs/{run}/events"),
    ("POST", "/v1/runs/{run}/cancel"),
    ("POST", "/v1/runs/{run}/approve"),
    ("DELETE", "/v1/runs/{run}"),
    ("GET", "/v1/tools"),
    ("GET", "/v1/toolsets"),
    ("POST", "/v1/toolsets"),
    ("DELETE", "/v1/toolsets/test"),
    ("GET", "/metrics"),
    ("GET", "/v1/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("given", ["", "Bearer umi_00000000_wrong", "Basic dXNlcjpwYXNz", "Bearer", "Bearer \xff"])
def test_without_a_valid_key_everything_is_a_401(world: Tenants, method: str, path: str, given: str) -> None:
    headers = {"authorization": given.encode("latin-1")} if given else {}
    response = httpx.request(method, world.gateway + path, headers=headers, trust_env=False)
    assert "umi keys create" in problem(response, 401, "unauthorized")["detail"]
    assert response.headers["www-authenticate"] == "Bearer"


def test_health_and_documentation_need_no_key(world: Tenants) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert httpx.get(world.gateway + path, trust_env=False).status_code == 200


def test_what_belongs_to_another_tenant_is_not_there(world: Tenants) -> None:
    other = world.of("other", Scope.ADMIN)
    run_id = world.run()["run_id"]
    for method, path in (
        ("GET", f"/v1/runs/{run_id}"),
        ("GET", f"/v1/runs/{run_id}/events"),
        ("POST", f"/v1/runs/{run_id}/cancel"),
        ("DELETE", f"/v1/runs/{run_id}"),
        ("DELETE", "/v1/toolsets/test"),
    ):
        problem(other.request(method, path), 404, "not-found")
    assert other.get("/v1/runs").json()["runs"] == []
    assert (other.get("/v1/tools").json(), other.get("/v1/toolsets").json()) == ([], [])
    assert other.post("/v1/queries", json={"query": "q", "tools": ["add"]}).status_code == 422
    assert other.get(f"/v1/responses/resp_{run_id}").status_code == 404
    going_on = {"model": "umi", "input": "q", "previous_response_id": f"resp_{run_id}"}
    assert other.post("/v1/responses", json=going_on).status_code == 404
    assert world.client.get(f"/v1/runs/{run_id}").status_code == 200


def test_a_call_is_approved_by_its_own_tenant_and_the_log_says_with_which_key(world: Tenants) -> None:
    person, keeper, other = world.of("acme", Scope.QUERY), world.of("acme", Scope.TOOLS), world.of("other")
    body = {"name": "test", "url": f"{world.tools}/openapi.json", "policy": "needs_approval"}
    assert world.client.post("/v1/toolsets", json=body).status_code == 201
    world.script.calls = [call("make_note", text="buy milk")]
    run = world.ask().json()
    path, yes = f"/v1/runs/{run['run_id']}/approve", {"approve": True, "step": 1}
    problem(other.post(path, json=yes), 404, "not-found")
    problem(keeper.post(path, json=yes), 403, "forbidden")
    item = {"type": "mcp_approval_response", "approve": True, "approval_request_id": f"mcpr_{run['run_id']}_1"}
    assert other.post("/v1/responses", json={"model": "umi", "input": [item]}).status_code == 404
    assert world.called == []
    decided = person.post(path, json=yes).json()
    key_id = person.headers["authorization"].removeprefix("Bearer umi_").partition("_")[0]
    assert decided["steps"][0]["approval"]["by"] == key_id
    super(Tenants, world).reset()


def test_runs_that_wait_for_approval_leave_room_for_others(world: Tenants) -> None:
    asks = world.of("acme", Scope.QUERY, concurrent_runs=1)
    body = {"name": "test", "url": f"{world.tools}/openapi.json", "policy": "needs_approval"}
    assert world.client.post("/v1/toolsets", json=body).status_code == 201
    world.script.calls = [call("make_note", text="buy milk")]
    assert [asks.post("/v1/queries", json={"query": "q"}).status_code for _ in range(3)] == [202] * 3
    super(Tenants, world).reset()


def test_two_tenants_may_use_the_same_names_and_idempotency_keys(world: Tenants) -> None:
    other = world.of("second")
    body = {"name": "test", "url": f"{world.tools}/openapi.json"}
    assert other.post("/v1/toolsets", json=body).status_code == 201
    headers = {"idempotency-key": "same"}
    made = [client.post("/v1/queries", json={"query": "q"}, headers=headers) for client in (world.client, other)]
    assert [response.status_code for response in made] == [200, 200]
    assert made[0].json()["run_id"] != made[1].json()["run_id"]
    assert other.delete("/v1/toolsets/test").status_code == 204
    assert [toolset["name"] for toolset in world.client.get("/v1/toolsets").json()] == ["test"]


def test_a_key_does_what_its_scopes_say(world: Tenants) -> None:
    asks, keeps, rules = (world.of("acme", scope) for scope in (Scope.QUERY, Scope.TOOLS, Scope.ADMIN))
    assert asks.get("/v1/tools").status_code == keeps.get("/v1/tools").status_code == 200
    refused = problem(keeps.post("/v1/queries", json={"query": "q"}), 403, "forbidden")
    assert "a key with the scope query; this one has tools" in refused["detail"]
    problem(keeps.get("/v1/runs"), 403, "forbidden")
    problem(asks.delete("/v1/toolsets/test"), 403, "forbidden")
    problem(asks.get("/metrics"), 403, "forbidden")
    assert rules.get("/metrics").status_code == 200
    assert rules.post("/v1/queries", json={"query": "q"}).status_code == 200


def test_requests_beyond_a_keys_rate_are_told_when_to_come_back(world: Tenants) -> None:
    client = world.of("acme", requests_per_minute=3)
    answers = [client.get("/v1/runs") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
    problem(answers[-1], 429, "too-many")
    assert 15 <= int(answers[-1].headers["retry-after"]) <= 20
    assert world.client.get("/v1/runs").status_code == 200, "another key is not concerned"


def test_runs_beyond_a_keys_limit_wait_for_others_to_end(world: Tenants) -> None:
    client = world.of("acme", concurrent_runs=1)
    world.script.delays[Role.PLANNER] = 30
    first = client.post("/v1/queries", json={"query": "q", "background": True}).json()["run_id"]
    refused = client.post("/v1/queries", json={"query": "q"})
    assert "1 runs at once" in problem(refused, 429, "too-many")["detail"]
    assert refused.headers["retry-after"] == "1"
    assert client.post(f"/v1/runs/{first}/cancel").status_code == 200
    assert client.post("/v1/queries", json={"query": "q", "background": True}).status_code == 202


def test_a_key_whose_tokens_of_the_day_are_used_up_is_told_so(world: Tenants) -> None:
    client = world.of("acme", tokens_per_day=13)
    assert client.post("/v1/queries", json={"query": "q"}).status_code == 200
    refused = client.post("/v1/queries", json={"query": "q"})
    assert "13 tokens a day" in problem(refused, 429, "too-many")["detail"]
    assert int(refused.headers["retry-after"]) <= 86_400


def test_openais_client_passes_the_key_and_reads_the_refusals(world: Tenants) -> None:
    url = f"{world.gateway}/v1"
    world.script.calls = [call("add", a=2, b=3)]
    messages: Any = [{"role": "user", "content": "What is 2 + 3?"}]
    with openai.OpenAI(base_url=url, api_key=world.key("acme"), max_retries=0) as client:
        assert client.chat.completions.create(model="umi", messages=messages).choices[0].message.content
        assert [model.id for model in client.models.list()] == ["umi"]
    with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as unknown:
            client.chat.completions.create(model="umi", messages=messages)
        assert unknown.value.code == "invalid_api_key"
    keeper = openai.OpenAI(base_url=url, api_key=world.key("acme", Scope.TOOLS), max_retries=0)
    with keeper, pytest.raises(openai.PermissionDeniedError):
        keeper.responses.create(model="umi", input="q")
    with openai.OpenAI(base_url=url, api_key=world.key("acme", requests_per_minute=1), max_retries=0) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as limited:
            client.models.list()
        assert limited.value.response.headers["retry-after"]


def test_commands_take_the_key_from_the_environment(world: Tenants) -> None:
    environment = {"UMI_GATEWAY": world.gateway, "COLUMNS": "200"}
    without = CliRunner(env=environment).invoke(create_cli(), ["tools"])
    assert "set UMI_API_KEY" in str(without.exception)
    with_key = CliRunner(env={**environment, "UMI_API_KEY": world.key("acme")})
    for arguments in (["tools"], ["ask", "q"], ["runs", "list"]):
        result = with_key.invoke(create_cli(), arguments)
        assert (result.exit_code, result.exception) == (0, None), result.output


def test_keys_are_made_listed_and_revoked_by_command(world: Tenants) -> None:
    runner = CliRunner(env={"UMI_DATABASE": world.database, "COLUMNS": "200"})

    def umi_keys(*arguments: str) -> str:
        result = runner.invoke(create_cli(), ["keys", *arguments])
        return str(result.exception or result.output) if not result.output else result.output

    made = umi_keys(
        "create", "--tenant", "byhand", "--name", "ci", "--scope", "query", "--tokens-per-day", "5000"
    ).strip()
    with httpx.Client(base_url=world.gateway, headers={"authorization": f"Bearer {made}"}, trust_env=False) as client:
        assert client.get("/v1/runs").status_code == 200
        line = next(line for line in umi_keys("list").splitlines() if "byhand" in line)
        assert ("ci" in line, "0 of 5,000" in line, made not in line) == (True, True, True)
        assert umi_keys("revoke", line.split()[0]) == f"{line.split()[0]}: revoked\n"
        time.sleep(1.1)
        assert client.get("/v1/runs").status_code == 401
    assert "no key" in umi_keys("revoke", "none")
    assert "--tenant 'No!'" in umi_keys("create", "--tenant", "No!")


def test_without_a_key_a_gateway_listens_on_loopback_only(tmp_path: Any) -> None:
    settings = {"UMI_HOST": "0.0.0.0", "UMI_PORT": str(free_port()), "UMI_DATABASE": f"sqlite:///{tmp_path}/umi.db"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"], env={**os.environ, **settings}, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 2
    assert "umi keys create" in ended.stderr
    wrong = {**settings, "UMI_DATABASE": f"postgresql://umi:secret@127.0.0.1:{free_port()}/umi"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"], env={**os.environ, **wrong}, capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stderr.count("\n"), "secret" in ended.stderr) == (2, 1, False)
    assert "the database cannot be used: connection failed" in ended.stderr
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.8.0.1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", "")] == [False] * 5


def test_a_first_key_is_taken_over_once_and_not_again_when_it_was_revoked(database: str) -> None:
    first = f"umi_0a1b2c3d_{'k' * 43}"
    assert not has_keys(Settings(database=database))
    with pytest.raises(ValueError, match="a key is umi_ID_SECRET"):
        has_keys(Settings(database=database, first_key=SecretStr("umi_0a1b2c3d_short")))
    for _ in range(2):
        assert has_keys(Settings(database=database, first_key=SecretStr(first)))
    opened = Database(database)
    with opened.transaction() as connection:
        [key] = keys.every(connection)
        assert (key.id, key.tenant, key.scopes) == ("0a1b2c3d", "default", frozenset(Scope))
        assert keys.revoke(connection, key.id)
    assert has_keys(Settings(database=database, first_key=SecretStr(first)))
    with opened.transaction() as connection:
        assert [key.revoked_at is None for key in keys.every(connection)] == [False]
    opened.close()


def test_a_first_key_that_is_none_ends_the_gateway_without_being_shown(tmp_path: Any) -> None:
    settings = {"UMI_DATABASE": f"sqlite:///{tmp_path}/umi.db", "UMI_FIRST_KEY": "umi_0a1b2c3d_short"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"], env={**os.environ, **settings}, capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, "UMI_FIRST_KEY: a key is umi_ID_SECRET" in ended.stderr) == (2, True)
    assert "short" not in ended.stderr
