"""Outgoing requests that may be made: what is sent, when it is sent again, and when a host is left alone."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from gateway.egress.client import Egress, Limits, Outgoing
from gateway.egress.dispatch import Dispatcher
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.permission import permission
from gateway.egress.secrets import Secrets
from gateway.transport import Answer
from tests.outside import outside, response, says
from umi.errors import BadInput, NotReached, Resting, TimedOut
from umi.openapi import HttpRequest

LIMITS = Limits(seconds=3.0)


@pytest.fixture
async def egress() -> AsyncGenerator[Egress]:
    async with Egress(Hosts(concurrency=2, failures=3, rest=0.3)) as client:
        yield client


async def send(egress: Egress, url: str, method: str = "GET", limits: Limits = LIMITS, **fields: Any) -> Answer:
    allowed = permission((), [url], (), ("127.0.0.1",))
    return await egress.send(Outgoing(method, url, **fields), allowed, limits)


async def test_a_body_is_sent_with_its_own_type_and_what_json_cannot_hold_is_not_sent(egress: Egress) -> None:
    async with outside() as own:
        dispatcher = Dispatcher(egress, Keyring(egress, Secrets()), LIMITS)
        allowed = permission((), [own.url], (), ("127.0.0.1",))
        for fields in (
            {"headers": {"content-type": "text/x"}, "text_body": "a=é"},
            {"headers": {}, "json_body": {"a": 1}},
            {"headers": {"content-type": "application/x+json"}, "json_body": []},
            {"headers": {}, "json_body": {"a": float("nan")}},
        ):
            reply = await dispatcher.send(HttpRequest(method="POST", url=own.url, **fields), allowed)
        assert (reply.observation, reply.outcome) == ("Not sent: NaN and infinity are not valid JSON.", "rejected")
    sent = [(head.lower().partition("content-type: ")[2].partition("\r\n")[0], body) for head, body in own.requests]
    assert sent == [("text/x", "a=é".encode()), ("application/json", b'{"a": 1}'), ("application/x+json", b"[]")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_a_call_that_may_be_repeated_is_tried_again(method: str, egress: Egress) -> None:
    body = b"" if method == "HEAD" else b"ok"
    async with outside(says(response(b"", 503)), says(response(b"", 429)), says(response(body))) as own:
        answer = await send(egress, own.url, method)
    assert (answer.status, len(own.requests)) == (200, 3)


async def test_without_time_for_another_try_the_one_before_is_told(egress: Egress) -> None:
    async with outside(says(response(b"", 503)), says()) as own:
        answer = await send(egress, own.url, limits=Limits(seconds=1.0))
    assert (answer.status, len(own.requests)) == (503, 2)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_call_that_may_not_be_repeated_is_sent_once(method: str, egress: Egress) -> None:
    async with outside(says(response(b"", 503)), says(response())) as own:
        assert (await send(egress, own.url, method)).status == 503
        assert len(own.requests) == 1


async def test_other_errors_are_answers(egress: Egress) -> None:
    async with outside(says(response(b"", 500)), says(response())) as own:
        assert (await send(egress, own.url)).status == 500


async def test_a_host_says_when_to_come_back(egress: Egress) -> None:
    async with outside(says(response(b"", 503, retry_after="1")), says(response())) as own:
        started = time.monotonic()
        assert (await send(egress, own.url)).status == 200
        assert time.monotonic() - started >= 1
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    for asked in ("60", later, "9" * 400):
        async with outside(says(response(b"", 503, retry_after=asked)), says(response())) as own:
            started = time.monotonic()
            assert (await send(egress, own.url)).status == 503  # there is no time for that: the answer is what it is
            assert (len(own.requests), time.monotonic() - started < 1) == (1, True)


async def test_a_host_that_fails_again_and_again_is_left_alone_then_tried_once(egress: Egress) -> None:
    once = Limits(seconds=2.0, tries=1)
    async with outside(says(b"nonsense\r\n\r\n")) as own:
        for _ in range(3):
            with pytest.raises(NotReached):
                await send(egress, own.url, limits=once)
        with pytest.raises(Resting, match="failed 3 times in a row"):
            await send(egress, own.url, limits=once)
        assert own.connections == 3
        await asyncio.sleep(0.35)
        results = await asyncio.gather(*(send(egress, own.url, limits=once) for _ in range(2)), return_exceptions=True)
        assert {type(result) for result in results} == {NotReached, Resting}
        own.behaviours[:] = [says(response())]
        await asyncio.sleep(0.35)
        for _ in range(2):
            assert (await send(egress, own.url, limits=once)).status == 200


async def test_only_so_many_calls_are_on_their_way_to_one_host(egress: Egress) -> None:
    async with outside(says(b"", seconds=30)) as slow, outside() as other:
        busy = [asyncio.create_task(send(egress, slow.url, "POST", Limits(seconds=1.0))) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(TimedOut, match="busy"):
            await send(egress, slow.url, "POST", Limits(seconds=0.2))
        assert (await send(egress, other.url)).status == 200
        assert len(slow.requests) == 2
        assert all(isinstance(late, TimedOut) for late in await asyncio.gather(*busy, return_exceptions=True))


@pytest.mark.parametrize("entry", ["", "http://a", "a/b", "10.0.0.0/8/8", "a b", "*.corp", "a:80", "-", "ä"])
def test_an_allowance_that_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(BadInput, match="neither a host name"):
        permission((), (), [entry])
