"""Webhooks: signed as the specification and our own documentation say, sent until they arrive, by one gateway."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from typer.testing import CliRunner

from gateway.cli import create_cli
from gateway.egress.client import Egress
from gateway.egress.hosts import Hosts
from gateway.metrics import Metrics
from gateway.store import Database, DeliveryState, Due, Store, webhooks
from gateway.store.retention import prune
from gateway.webhooks import signing
from gateway.webhooks.sending import Webhooks
from gateway.webhooks.terms import Terms
from tests.contract.test_store import FOR_LONG, begin, completed
from tests.contract.test_survival import gateway, wait
from tests.fakes import call, serve
from tests.outside import Names, outside
from tests.world import World
from umi.roles import Role

MASTER = "a key of the tests that is long enough"
ALLOWED = {"webhook_key": MASTER, "webhook_allow": ("127.0.0.1",), "webhook_pauses": (0.2, 0.2)}
DOCUMENTED: dict[str, Any] = {}
exec(re.findall(r"```python\n(.*?)```", Path("docs/operation.md").read_text(), re.S)[0], DOCUMENTED)
is_genuine: Callable[[str, Any, bytes], bool] = DOCUMENTED["is_genuine"]


@dataclass
class Receiver:
    """Takes webhooks; `answers` are given first, then 204."""

    answers: list[Response] = field(default_factory=list[Response])
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    seconds: float = 0.0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hook")
        async def take(request: Request) -> Response:
            self.received.append((dict(request.headers), await request.body()))
            await asyncio.sleep(self.seconds)
            return self.answers.pop(0) if self.answers else Response(status_code=204)

        return app


@dataclass
class Told:
    """A world whose runs' ends are told to a receiver."""

    world: World
    client: httpx.Client
    receiver: Receiver
    url: str
    secret: str

    def begin(self) -> str:
        body = {"query": "q", "background": True, "webhook": {"url": self.url}}
        response = self.client.post("/v1/queries", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["run_id"])

    def delivery(self, run_id: str, state: str) -> dict[str, Any]:
        for _ in range(400):
            found = self.client.get(f"/v1/runs/{run_id}/webhook").json()
            if found["state"] == state:
                return found
            time.sleep(0.02)
        raise AssertionError(f"it does not become {state}: {found}")


def rotate(database: str, tenant: str = "default", key: str = MASTER) -> str:
    arguments = ["webhooks", "rotate", "--tenant", tenant, "--database", database]
    result = CliRunner(env={"UMI_WEBHOOK_KEY": key}).invoke(create_cli(), arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with ExitStack() as stack:
        world, receiver = World(tmp_path_factory.mktemp("gateway"), stack), Receiver()
        url = stack.enter_context(serve(receiver.app())) + "/hook"
        secret = rotate(world.database)
        gateway = world.start(**ALLOWED)
        client = stack.enter_context(httpx.Client(base_url=gateway, timeout=20, trust_env=False))
        yield Told(world, client, receiver, url, secret)


@pytest.fixture
def told(shared: Told) -> Told:
    """With a secret that signs alone, a receiver that has seen nothing, and no webhooks of runs before."""
    database = Database(shared.world.database)
    with database.transaction() as connection:
        for table in ("deliveries", "webhook_secrets"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    database.close()
    vars(shared.receiver).update(vars(Receiver()))
    shared.world.reset()
    shared.secret = rotate(shared.world.database)
    return shared


def test_the_end_of_a_run_is_told_in_a_message_that_the_documented_lines_verify(told: Told) -> None:
    told.world.script.calls = [call("add", a=2, b=3)]
    run_id = told.begin()
    found = told.delivery(run_id, "delivered")
    assert (found["attempts"], found["status"], found["problem"], found["due_at"]) == (1, 204, None, None)
    [(headers, body)] = told.receiver.received
    message = httpx.Response(200, content=body).json()
    assert (message["type"], headers["webhook-id"]) == ("run.completed", f"msg_{run_id}")
    assert message["timestamp"].endswith("Z")
    wanted = {"run_id": run_id, "outcome": "answered", "answer": told.world.script.answer, "problem": None}
    assert message["data"].pop("created_at") > 0
    assert message["data"] == wanted
    assert is_genuine(told.secret, headers, body)
    assert not is_genuine(told.secret, headers, body + b" ")
    assert not is_genuine("whsec_" + "A" * 44, headers, body)
    assert not is_genuine(told.secret, {**headers, "webhook-timestamp": "1"}, body)


def test_the_signature_is_that_of_the_specifications_example() -> None:
    # From the test vectors of the specification's own libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [key])
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_fails_is_sent_again_with_the_same_id_and_a_new_signature(told: Told) -> None:
    told.receiver.answers = [Response(status_code=500), Response(status_code=302, headers={"location": "/elsewhere"})]
    found = told.delivery(told.begin(), "delivered")
    assert found["attempts"] == 3
    assert len({headers["webhook-id"] for headers, _ in told.receiver.received}) == 1
    assert len({body for _, body in told.receiver.received}) == 1
    assert all(is_genuine(told.secret, headers, body) for headers, body in told.receiver.received)


def test_a_webhook_that_nobody_takes_is_given_up_listed_and_can_be_sent_once_more(told: Told) -> None:
    told.receiver.answers = [Response(status_code=500) for _ in range(3)]
    run_id = told.begin()
    found = told.delivery(run_id, "failed")
    assert (found["attempts"], found["status"], found["problem"]) == (3, 500, "was answered 500")
    other = told.begin()
    told.delivery(other, "delivered")
    listed = told.client.get("/v1/webhooks", params={"state": "failed"}).json()["webhooks"]
    assert [hook["run_id"] for hook in listed] == [run_id]
    first = told.client.get("/v1/webhooks", params={"limit": 1}).json()
    then = told.client.get("/v1/webhooks", params={"limit": 1, "cursor": first["next"]}).json()
    assert [first["webhooks"][0]["run_id"], then["webhooks"][0]["run_id"], then["next"]] == [other, run_id, None]
    assert told.client.post(f"/v1/runs/{run_id}/webhook/resend").status_code == 202
    assert told.delivery(run_id, "delivered")["attempts"] == 4
    text = told.client.get("/metrics").text
    assert set(re.findall(r'umi_webhook_seconds_count\{state="(\w+)"\}', text)) == {"failed", "pending", "delivered"}


def test_a_receiver_that_is_gone_is_not_asked_again_and_one_that_asks_for_time_has_it(told: Told) -> None:
    told.receiver.answers = [Response(status_code=410), Response(status_code=503, headers={"retry-after": "9"})]
    assert told.delivery(told.begin(), "failed")["attempts"] == 1
    run_id = told.begin()
    found = told.delivery(run_id, "pending")
    while found["status"] is None:
        found = told.delivery(run_id, "pending")
    assert 0.1 < found["due_at"] - found["at"] <= 0.3, "never longer than the longest pause"


def test_after_a_rotation_both_secrets_sign_for_a_day(told: Told) -> None:
    new = rotate(told.world.database)
    assert new != told.secret
    told.delivery(told.begin(), "delivered")
    headers, body = told.receiver.received[0]
    assert is_genuine(told.secret, headers, body) and is_genuine(new, headers, body)
    database = Database(told.world.database)
    with database.transaction() as connection:
        webhooks.rotate(connection, "default", time.time() - signing.GRACE_SECONDS)
    database.close()
    told.delivery(told.begin(), "delivered")
    headers, body = told.receiver.received[1]
    assert not is_genuine(told.secret, headers, body) and not is_genuine(new, headers, body)


def test_every_tenant_and_every_key_has_secrets_of_its_own(told: Told) -> None:
    made = [told.secret, rotate(told.world.database, "acme"), rotate(told.world.database, "b", MASTER + "!")]
    assert len(set(made)) == 3
    database = Path(told.world.database.removeprefix("sqlite:///"))
    stored = b"".join(path.read_bytes() for path in database.parent.glob("umi.db*"))
    assert not [secret for secret in made if secret.encode() in stored or secret[6:].encode() in stored]
    assert MASTER.encode() not in stored


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://10.0.0.1/hook", "10.0.0.1 is not public"),
        ("http://[::1]:1/hook", "::1 is not public"),
        ("http://169.254.169.254/latest", "not public"),
        ("ftp://example.com/hook", "URL scheme"),
        ("https://ann:word@example.com/hook", "user name or password"),
    ],
)
def test_an_address_that_is_not_public_is_refused_unless_the_operator_allows_it(
    told: Told, url: str, message: str
) -> None:
    body = {"query": "q", "background": True, "webhook": {"url": url}}
    response = told.client.post("/v1/queries", json=body)
    assert response.status_code == 422
    assert message in response.json()["detail"]


def test_without_background_key_or_secret_there_is_no_webhook(told: Told) -> None:
    ask: dict[str, Any] = {"query": "q", "webhook": {"url": told.url}}
    assert 'add "background": true' in told.client.post("/v1/queries", json=ask).json()["detail"]
    ask["background"] = True
    assert "UMI_WEBHOOK_KEY" in told.world.client.post("/v1/queries", json=ask).json()["detail"]
    database = Database(told.world.database)
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM webhook_secrets")
    database.close()
    refused = told.client.post("/v1/queries", json=ask)
    assert (refused.status_code, "umi webhooks rotate --tenant default" in refused.text) == (422, True)


def test_a_run_without_a_webhook_has_none_and_one_that_waits_is_not_sent_again(told: Told) -> None:
    plain = told.client.post("/v1/queries", json={"query": "q"}).json()["run_id"]
    assert told.client.get(f"/v1/runs/{plain}/webhook").status_code == 404
    told.world.script.delays[Role.PLANNER] = 0.3
    run_id = told.begin()
    assert told.client.get(f"/v1/runs/{run_id}/webhook").json()["state"] == "waiting"
    assert told.client.post(f"/v1/runs/{run_id}/webhook/resend").status_code == 409
    told.delivery(run_id, "delivered")
    assert told.client.delete(f"/v1/runs/{run_id}").status_code == 204
    assert told.client.get(f"/v1/runs/{run_id}/webhook").status_code == 404


def test_a_cancelled_run_is_told_as_well_and_two_gateways_send_it_once(told: Told) -> None:
    told.world.start(**ALLOWED)
    told.world.script.delays[Role.PLANNER] = 30
    run_id = told.begin()
    told.client.post(f"/v1/runs/{run_id}/cancel")
    told.delivery(run_id, "delivered")
    told.world.script.delays.clear()
    for each in [told.begin() for _ in range(8)]:
        told.delivery(each, "delivered")
    time.sleep(0.7)
    sent = [headers["webhook-id"] for headers, _ in told.receiver.received]
    assert len(sent) == len(set(sent)) == 9


def test_a_webhook_survives_its_gateway_and_is_sent_by_the_next(told: Told, tmp_path: Path) -> None:
    told.receiver.answers = [Response(status_code=503)]
    settings = {"UMI_WEBHOOK_KEY": MASTER, "UMI_WEBHOOK_ALLOW": "127.0.0.1", "UMI_WEBHOOK_PAUSES": "2,2"}
    world = copy(told.world)
    world.database = f"sqlite:///{tmp_path}/umi.db"  # one that no other gateway looks at
    secret = rotate(world.database)
    with gateway(world, tmp_path, **settings) as (client, process):
        client.post("/v1/toolsets", json={"name": "test", "url": f"{world.tools}/openapi.json"})
        run_id = Told(world, client, told.receiver, told.url, secret).begin()
        wait(lambda: client.get(f"/v1/runs/{run_id}/webhook").json()["status"] == 503)
        process.kill()
    with gateway(world, tmp_path, **settings) as (client, _):
        Told(world, client, told.receiver, told.url, secret).delivery(run_id, "delivered")
    assert [headers["webhook-id"] for headers, _ in told.receiver.received] == [f"msg_{run_id}"] * 2


@pytest.fixture
async def stores(database: str) -> AsyncIterator[tuple[Store, Store]]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Store(database))
        yield first, await stack.enter_async_context(Store(database))


async def end(store: Store, run_id: str) -> None:
    await begin(store, run_id, webhook="https://example.com/")
    await store.runs.append("a", completed(run_id, 1))


async def test_of_two_that_claim_one_gets_it_and_it_can_be_claimed_again_when_nothing_is_heard(
    stores: tuple[Store, Store],
) -> None:
    first, second = (store.webhooks for store in stores)
    await begin(stores[0], "goes-on", webhook="https://example.com/")
    for number in range(10):
        await end(stores[0], f"r{number}")
    now = time.time()
    found = await asyncio.gather(*(each.claim(now, now + 60, 4) for each in (first, second) * 3))
    claimed = [due for dues in found for due in dues]
    assert sorted(due.run_id for due in claimed) == sorted(f"r{number}" for number in range(10))
    assert await first.claim(now, now + 60, 99) == []
    [late] = [due for due in claimed if due.run_id == "r3"]
    assert late == Due(run_id="r3", tenant="default", url="https://example.com/", attempt=1)
    again = await second.claim(now + 61, now + 120, 99)
    assert {due.attempt for due in again} == {2}
    await first.settle(late, DeliveryState.DELIVERED, now, None, 200, None)
    found = await second.of("default", "r3")
    assert found is not None and found.state is DeliveryState.PENDING, "the word of whoever was too late does not count"
    assert await second.of("other", "r3") is None


async def test_a_name_that_leads_inside_is_accepted_and_never_dialled(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    with store.database.transaction() as connection:
        webhooks.rotate(connection, "default", time.time())
    names = Names(inside_example=[["127.0.0.1"]])
    async with (
        outside() as receiver,
        Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as egress,
        Webhooks(store.webhooks, store.runs, egress, Metrics(), Terms(MASTER.encode(), 2.0, ())) as sender,
    ):
        url = await sender.checked("default", f"http://inside.example:{receiver.port}/hook")
        await begin(store, "r", webhook=url)
        await store.runs.append("a", completed("r", 1))
        while (found := await store.webhooks.of("default", "r")) and found.state is not DeliveryState.FAILED:
            await asyncio.sleep(0.05)
    assert found is not None and found.problem is not None
    assert "its address is not public" in found.problem
    assert (names.asked, receiver.requests) == (["inside.example"], [])


async def test_a_run_is_not_pruned_before_its_webhook_is_sent(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    await end(store, "r")
    with store.database.transaction() as connection:
        assert prune(connection, FOR_LONG) == 0
    [due] = await store.webhooks.claim(time.time(), FOR_LONG, 1)
    await store.webhooks.settle(due, DeliveryState.DELIVERED, time.time(), None, 200, None)
    with store.database.transaction() as connection:
        assert prune(connection, FOR_LONG) == 1
    assert await store.webhooks.of("default", "r") is None
