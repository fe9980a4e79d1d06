"""Whatever the OpenAPI document allows, and what it does not: no request is answered with a 500 or off the document.

`make fuzz` tries many more requests (UMI_FUZZ_EXAMPLES for each operation and way).
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.app import create_app
from gateway.protocol import Http
from gateway.settings import Settings
from gateway.store import Database, Scope, keys
from tests.fakes import call, serve
from tests.world import World

EXAMPLES = int(os.environ.get("UMI_FUZZ_EXAMPLES", "6"))
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
SCHEMA = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
PLACED = {label: operation for label, operation in OPERATIONS.items() if operation.path_parameters}
TUNED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Fuzzed(World):
    """A gateway that is quick to give up, first without keys, and another that wants keys."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.script.calls = [call("add", a=2, b=3)]
        self.open = self.start(document_seconds=0.3, tool_connect_seconds=0.3)
        self.run_id = str(self.run()["run_id"])
        closed = self.settings(database=self.database + ".keys", document_seconds=0.3, tool_connect_seconds=0.3)
        self.closed_database = closed.database
        Database(closed.database).migrate()
        self.keys = {tenant: self._key(tenant) for tenant in ("owner", "stranger", "fuzzer")}
        self.closed = self._stack.enter_context(serve(create_app(closed), http=Http))
        with self.of("owner") as owner:
            added = owner.post("/v1/toolsets", json={"name": "test", "url": f"{self.tools}/openapi.json"})
            assert added.status_code == 201, added.text
            self.owned = {"name": "test", "run_id": owner.post("/v1/queries", json={"query": "q"}).json()["run_id"]}
        self.owned |= {"response_id": f"resp_{self.owned['run_id']}", "version": 1}

    def of(self, tenant: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.keys[tenant]}"}
        return httpx.Client(base_url=self.closed, headers=headers, timeout=20, trust_env=False)

    def _key(self, tenant: str) -> str:
        database = Database(self.closed_database)
        with database.transaction() as connection:
            made = keys.create(connection, tenant, "test", (Scope.ADMIN,))
        database.close()
        return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with ExitStack() as stack:
        yield Fuzzed(tmp_path_factory.mktemp("fuzz"), stack)


def send(case: Case, url: str, headers: dict[str, str]) -> int:
    """The status of the answer, which must be one that the document tells of, and of the form that it says."""
    response = case.call(base_url=url, headers=headers, timeout=30)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=CHECKS)
    return response.status_code


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("mode", GenerationMode)
def test_no_request_is_answered_otherwise_than_documented(world: Fuzzed, label: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[label]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        mode = GenerationMode.POSITIVE  # there is nothing that could be wrong

    @TUNED
    @given(case=operation.as_strategy(mode))
    def probe(case: Case) -> None:
        send(case, world.open, {})
        send(case, world.closed, {"authorization": f"Bearer {world.keys['fuzzer']}"})

    probe()


@pytest.mark.parametrize("label", OPERATIONS)
def test_without_a_key_only_what_is_open_is_answered(world: Fuzzed, label: str) -> None:
    @settings(TUNED, max_examples=2)
    @given(case=OPERATIONS[label].as_strategy())
    def probe(case: Case) -> None:
        is_open = label.split()[1] in {"/healthz", "/readyz"}
        assert (send(case, world.closed, {"authorization": ""}) == 401) is not is_open
        assert (send(case, world.closed, {"authorization": "Bearer umi_wrong"}) == 401) is not is_open

    probe()


@pytest.mark.parametrize("label", [label for label in PLACED if "{model}" not in label and "weights" not in label])
def test_what_is_another_tenants_is_not_there(world: Fuzzed, label: str) -> None:
    operation = OPERATIONS[label]
    place = {each.name: world.owned[each.name] for each in operation.path_parameters}

    @settings(TUNED, max_examples=2)
    @given(case=operation.as_strategy(path_parameters=place))
    def probe(case: Case) -> None:
        assert send(case, world.closed, {"authorization": f"Bearer {world.keys['stranger']}"}) == 404

    probe()
    with world.of("owner") as owner:
        assert owner.get(f"/v1/runs/{world.owned['run_id']}").status_code == 200
        assert [toolset["name"] for toolset in owner.get("/v1/toolsets").json()] == ["test"]
    with world.of("stranger") as stranger:
        assert stranger.get("/v1/runs").json()["runs"] == stranger.get("/v1/tools").json() == []
