"""Attempts to get out through a tool call to where its toolset must not go, or to bring too much in. None succeeds.

The guard is as in production; each test lets through the loopback server that it needs, and nothing else.
"""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.egress.client import Credentials, Egress, Limits, Outgoing
from gateway.egress.hosts import Hosts
from gateway.egress.permission import Permission, permission
from gateway.tools.fetch import fetch
from gateway.transport import Answer
from tests.outside import Behaviour, Names, Server, for_ever, outside, response, says
from umi.errors import CallRejected, Forbidden, NoResponse, NotReached, TimedOut, TooLarge, Unreachable
from umi.openapi import build_request, read_document

LIMITS = Limits(seconds=2.0, bytes=100_000, tries=1)


def only(*urls: str) -> Permission:
    """These loopback origins and nothing else that is not public."""
    return permission((), urls, (), ("127.0.0.0/8",))


def listed(*urls: str) -> Permission:
    """A toolset whose document lists these servers, in production: nothing inside is allowed."""
    return permission(urls, (), ())


async def send(egress: Egress, url: str, allowed: Permission, **fields: Any) -> Answer:
    return await egress.send(Outgoing(fields.pop("method", "GET"), url, **fields), allowed, LIMITS)


@pytest.fixture
async def egress() -> AsyncGenerator[Egress]:
    async with Egress(Hosts(concurrency=8, failures=1000, rest=1.0)) as client:
        yield client


@pytest.fixture
async def victim() -> AsyncGenerator[Server]:
    """A service inside, on every address of loopback that can be had; no request must ever arrive at it."""
    async with outside() as server, outside(host="::1", port=server.port) as other:
        yield server
        assert (server.connections, other.connections) == (0, 0)


# addresses, however they are written

LOOPBACK = """
127.0.0.1 127.0.0.1. 127.1 127.0.1 127.127.127.127 0.0.0.0 0 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 0177.1
017700000001 ①②⑦.⓪.⓪.① 127。0。0。1 localhost LOCALHOST localhost. [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1]
[::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::]
[::ffff:0:127.0.0.1] 127.0.0.1%00.example.com 127.0.0.1%2f.example.com
""".split()
INSIDE = """
10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200
192.0.0.192 0xa9fea9fe 2852039166 192.0.2.1 198.18.0.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 [fe80::1]
[fe80::1%25lo] [fc00::1] [fd00:ec2::254] [fec0::1] [ff02::1] [2001:db8::1] [2001::1] [3fff::1] [5f00::1] [100::1]
[::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [64:ff9b::a9fe:a9fe] [2002:a9fe:a9fe::] [::ffff:10.0.0.1]
""".split()


@pytest.mark.parametrize("host", LOOPBACK)
async def test_loopback_is_not_reached_however_it_is_written(host: str, egress: Egress, victim: Server) -> None:
    url = f"http://{host}:{victim.port}/"
    with pytest.raises((Forbidden, NotReached)):
        await send(egress, url, listed(url))


@pytest.mark.parametrize("host", INSIDE)
async def test_an_address_that_is_not_public_is_refused_before_it_is_dialled(host: str, egress: Egress) -> None:
    url = f"http://{host}/latest/meta-data"
    with pytest.raises(Forbidden):
        await send(egress, url, listed(url))


@pytest.mark.parametrize("entry", ["169.254.0.0/16", "0.0.0.0/0", "meta.corp"])
async def test_a_wide_allowance_does_not_mean_the_metadata_service(entry: str) -> None:
    names = Names(meta_corp=[["169.254.169.254"]])
    async with Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as client:
        for url in ("http://169.254.169.254/", "http://meta.corp/"):
            with pytest.raises(Forbidden):
                await send(client, url, permission([url], [], [entry]))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "unix:///run/docker.sock", "data:text/plain,x",
     "http://user:word@127.0.0.1:{port}/", "http://api.example.com@127.0.0.1:{port}/", "http://:x@127.0.0.1:{port}/",
     "http://api.example.com\\@127.0.0.1:{port}/", "http:///127.0.0.1:{port}/", "http://127.0.0.1:{port}:80/",
     "http://api.example.com:80#@127.0.0.1:{port}/", "http://127.0.0.1:{port}\r\n.example.com/", "",
     "//127.0.0.1:{port}"],
)  # fmt: skip
async def test_a_url_that_hides_where_it_leads_is_refused(url: str, victim: Server) -> None:
    filled = url.format(port=victim.port)
    names = Names(api_example_com=[["127.0.0.1"]])
    async with Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as client:
        with pytest.raises(Forbidden):
            await send(client, filled, listed("http://api.example.com/", filled))


async def test_a_host_or_port_that_the_toolset_does_not_have_is_refused(egress: Egress, victim: Server) -> None:
    async with outside() as own:
        assert (await send(egress, own.url, only(own.url))).status == 200
        for url in (victim.url, f"http://localhost:{own.port}/", f"http://127.0.0.2:{own.port}/"):
            with pytest.raises(Forbidden, match="not among the hosts of its toolset"):
                await send(egress, url, only(own.url))


async def test_a_document_from_an_allowed_place_cannot_list_a_server_inside(egress: Egress, victim: Server) -> None:
    allowed = permission([victim.url], ["http://127.0.0.1:9/openapi.json"], (), ("127.0.0.0/8",))
    with pytest.raises(Forbidden, match="not public"):
        await send(egress, victim.url, allowed)


# names


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"], ["fd00::1"], ["0.0.0.0"],
     ["fe80::1"], ["64:ff9b::7f00:1"], ["127.0.0.1", "::1", "10.0.0.1"], []],
)  # fmt: skip
async def test_a_name_that_stands_for_an_address_inside_is_refused(addresses: list[str], victim: Server) -> None:
    names = Names(api_example_com=[addresses])
    url = f"http://api.example.com:{victim.port}/"
    async with Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as client:
        with pytest.raises(Forbidden, match="not public"):
            await send(client, url, listed(url))
    assert names.asked == ["api.example.com"]


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(victim: Server) -> None:
    async with outside(says(response(connection="close")), host="127.0.0.2", port=victim.port) as own:
        names = Names(api_example_com=[["127.0.0.2"], ["127.0.0.1"]])
        url = f"http://api.example.com:{own.port}/"
        allowed = permission([url], [], ["127.0.0.2"])
        async with Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as client:
            assert (await send(client, url, allowed)).status == 200
            assert names.asked == ["api.example.com"]  # once: there is no second answer that could differ
            await asyncio.sleep(0.05)
            with pytest.raises(Forbidden):  # a new connection asks again, and what it hears is checked again
                await send(client, url, allowed)
        assert len(own.requests) == 1


async def test_of_several_addresses_only_those_that_were_checked_are_dialled(victim: Server) -> None:
    names = Names(api_example_com=[["127.0.0.1", "127.0.0.2", "::1"]])
    url = f"http://api.example.com:{victim.port}/"
    async with Egress(Hosts(8, 5, 1.0), resolver=lambda: names) as client:
        with pytest.raises(NotReached):
            await send(client, url, permission([url], [], ["127.0.0.2"]))


async def test_a_toolset_cannot_use_the_open_connection_of_another_one(egress: Egress) -> None:
    async with outside() as own:
        assert (await send(egress, own.url, only(own.url))).status == 200
        with pytest.raises(Forbidden, match="not public"):
            await send(egress, own.url, listed(own.url))
        assert len(own.requests) == 1


# redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_kind_of_redirect_leads_inside(status: int, egress: Egress, victim: Server) -> None:
    async with outside(says(response(status=status, location=f"{victim.url}/"))) as own:
        with pytest.raises(Forbidden):
            await send(egress, own.url, only(own.url))


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "//127.0.0.1:{port}/", "http://[::1]:{port}/",
     "http://localhost:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://127.1:{port}/",
     "https://127.0.0.1:{port}/", "\\\\127.0.0.1:{port}\\", "/\\127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}/",
     "http://{own}@127.0.0.1:{port}/", "http://user:word@{own}/", "http://{own}#@127.0.0.1:{port}/../",
     "///127.0.0.1:{port}/", "http:127.0.0.1:{port}",
     "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:{port}/_x", "javascript:alert(1)", "data:,x", "http://",
     "http://{own}.example.com/", "http://[::ffff:127.0.0.1]:{port}/", "http://metadata.google.internal/",
     "/" + "x" * 9000],
)  # fmt: skip
async def test_a_redirect_is_checked_like_the_request(location: str, egress: Egress, victim: Server) -> None:
    async with outside(says(response(b"first", 302)), says(response(b"second"))) as own:
        target = location.format(port=victim.port, own=own.url.removeprefix("http://"))
        own.behaviours[0] = says(response(b"", 302, location=target))
        try:
            answer = await send(egress, own.url, only(own.url))
        except NoResponse:
            assert len(own.requests) == 1
        else:  # it was read as a path or a fragment on the very same server
            assert (answer.body, len(own.requests)) == (b"second", 2)


async def test_redirects_end(egress: Egress, victim: Server) -> None:
    async with outside() as own:
        own.behaviours[0] = says(response(b"", 302, location=f"{own.url}/again"))
        with pytest.raises(Forbidden, match="more than 5 times"):
            await send(egress, own.url, only(own.url))
        assert len(own.requests) == 6
        own.requests.clear()
        own.behaviours[:] = [says(response(b"", 302, location="/a")), says(response(b"", 302, location=victim.url))]
        with pytest.raises(Forbidden, match="not among the hosts"):
            await send(egress, own.url, only(own.url))


@pytest.mark.parametrize("status", [302, 303, 307, 308])
async def test_a_call_that_changes_something_is_not_redirected(status: int, egress: Egress, victim: Server) -> None:
    async with outside(says(response(b"", status, location=f"{victim.url}/"))) as own:
        answer = await send(egress, own.url, only(own.url, victim.url), method="POST", content=b"secret")
        assert answer.status == status


# credentials

KEY = "s3cr3t-k3y"


@pytest.mark.parametrize(
    "fields",
    [
        {"credentials": Credentials(headers={"authorization": f"Bearer {KEY}"})},
        {"credentials": Credentials(headers={"x-api-key": KEY})},
        {"credentials": Credentials(query={"api_key": KEY})},
        {"credentials": Credentials(cookies={"session": KEY})},
        {"headers": {"x-secret": KEY}},
        {"headers": {"cookie": f"a={KEY}"}},
        {"headers": {"authorization": KEY}},
        {"content": KEY.encode(), "headers": {"content-type": "text/plain"}},
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_no_credential_goes_to_another_host_or_port(fields: dict[str, Any], host: str, egress: Egress) -> None:
    async with outside(host=host) as other, outside(says(response(b"", 307, location=f"{other.url}/x"))) as own:
        await send(egress, own.url, only(own.url, other.url), **fields)
        assert KEY in str(own.requests)
        assert len(other.requests) == 1
        assert KEY not in str(other.requests)


async def test_credentials_stay_with_a_redirect_on_the_same_host(egress: Egress) -> None:
    credentials = Credentials({"authorization": KEY}, {"api_key": KEY}, {"session": KEY})
    async with outside(says(response(b"", 302, location="/moved?x=1")), says(response())) as own:
        await send(egress, own.url, only(own.url), credentials=credentials, headers={"cookie": "a=b"})
    moved = own.requests[1][0].lower()
    assert f"get /moved?x=1&api_key={KEY} " in moved
    assert f"authorization: {KEY}" in moved
    assert f"cookie: a=b; session={KEY}" in moved


# arguments

ARGUMENTS = [
    "..", "../admin", "a/../../admin", "%2e%2e/admin", "%252e%252e%252fadmin", "..%2fadmin", "a\\..\\..\\admin",
    "/admin",
    "//127.0.0.1/admin", "x?admin=1", "x#admin", "@127.0.0.1/admin", "x\r\nx-evil: 1",
    "\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
    "x\nx-evil: 1", "\x00", "x&admin=1", "x;admin=1", "http://127.0.0.1/admin", "é\u2028\u2029",
]  # fmt: skip
ITEM = {
    "operationId": "item",
    "parameters": [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        *(
            {"name": f"in-{place}", "in": place, "schema": {"type": "string"}}
            for place in ("query", "header", "cookie")
        ),
    ],
}


@pytest.mark.parametrize("value", ARGUMENTS)
@pytest.mark.parametrize("place", ["path", "query", "header", "cookie"])
async def test_no_argument_leaves_its_place(place: str, value: str, egress: Egress) -> None:
    async with outside() as own:
        described = {"openapi": "3.0.3", "servers": [{"url": own.url}], "paths": {"/items/{id}": {"get": ITEM}}}
        (operation,) = read_document(described)
        name = next(name for name, (where, _) in operation.places.items() if where == place)
        try:
            request = build_request(operation, {"id": "7", name: value})
        except CallRejected:
            return
        await egress.send(Outgoing("GET", request.url, request.headers), only(own.url), LIMITS)
    ((head, body),) = own.requests
    line, *headers = head.rstrip().split("\r\n")
    method, target, version = line.split(" ")
    path, _, query = target.partition("?")
    assert (method, version, body) == ("GET", "HTTP/1.1", b"")
    assert path.startswith("/items/")
    assert path.count("/") == 2
    assert query.count("&") == 0
    assert ".." not in path.lower().replace("%2e", ".").replace("%252e", ".")
    names = [header.partition(":")[0].lower() for header in headers]
    assert set(names) <= {"host", "accept", "accept-encoding", "user-agent", "in-header", "cookie"}
    assert len(names) == len(set(names))


# what comes back

BOMB = gzip.compress(b"\x00" * 50_000_000)
BOMB_2, ZLIB_BOMB = gzip.compress(BOMB), zlib.compress(b"x" * 9_000_000)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        pytest.param(says(response(BOMB, content_encoding="gzip")), TooLarge, id="gzip bomb"),
        pytest.param(says(response(ZLIB_BOMB, content_encoding="deflate")), TooLarge, id="deflate bomb"),
        pytest.param(says(response(BOMB_2, content_encoding="gzip, gzip")), NotReached, id="a bomb in a bomb"),
        pytest.param(says(response(BOMB, content_encoding="x-gzip")), TooLarge, id="bomb under another name"),
        pytest.param(says(response(b"abc", content_encoding="br")), NotReached, id="encoding not asked for"),
        pytest.param(says(response(b"abc", content_encoding="gzip")), NotReached, id="not what it says"),
        pytest.param(says(response(b"x" * 100_001)), TooLarge, id="one byte too many"),
        pytest.param(says(response(b"x", content_length="99999999999")), TooLarge, id="announced size"),
        pytest.param(
            says(HEAD + b"content-length: 5\r\ncontent-length: 900\r\n\r\nabcde"), NotReached, id="two lengths"
        ),
        pytest.param(for_ever(HEAD + b"\r\n", b"x" * 10_000), TooLarge, id="endless body"),
        pytest.param(
            for_ever(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
            TooLarge, id="endless chunks",
        ),
        pytest.param(
            for_ever(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1;" + b"x" * 5000 + b"\r\nx\r\n", 0.001),
            (NotReached, TooLarge, TimedOut), id="endless chunk extensions",
        ),
        pytest.param(for_ever(HEAD, b"x-more: " + b"y" * 1000 + b"\r\n"), NotReached, id="endless headers"),
        pytest.param(for_ever(HEAD + b"x-long: ", b"y" * 1000), NotReached, id="endless header line"),
        pytest.param(for_ever(b"HTTP/1.1 200 ", b"y" * 1000), NotReached, id="endless status line"),
        pytest.param(for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), (TimedOut, NotReached), id="endless 100s"),
        pytest.param(for_ever(HEAD + b"\r\n", b"x", 0.05), TimedOut, id="slow drip of a body"),
        pytest.param(for_ever(HEAD + b"x-slow: ", b"y", 0.05), TimedOut, id="slow drip of a header"),
        pytest.param(says(b"", seconds=30), TimedOut, id="silence"),
        pytest.param(says(HEAD + b"content-length: 9\r\n\r\n", seconds=30), TimedOut, id="silence after the head"),
        pytest.param(says(b"SSH-2.0-OpenSSH\r\n"), NotReached, id="not HTTP"),
    ],
)  # fmt: skip
async def test_a_response_beyond_the_limits_is_not_read(behaviour: Behaviour, error: Any, egress: Egress) -> None:
    async with outside(behaviour) as own:
        started = time.monotonic()
        limits = Limits(seconds=1.0, bytes=100_000, tries=1)
        with pytest.raises(error):
            await egress.send(Outgoing("GET", own.url), only(own.url), limits)
        assert time.monotonic() - started < 5


# documents


@pytest.mark.parametrize(
    "answer",
    [response(b"", 302, location="http://169.254.169.254/"), response(b"", 302, location="file:///etc/passwd"),
     response(BOMB, content_encoding="gzip"), response(b"x" * 200_000), response(b"a: [" * 30_000)],
)  # fmt: skip
async def test_a_document_is_fetched_under_the_same_rules(answer: bytes, egress: Egress, victim: Server) -> None:
    async with outside(says(answer)) as own:
        with pytest.raises(Unreachable):
            await fetch(egress, own.url, only(own.url), LIMITS)
    with pytest.raises(Unreachable, match="not public"):
        await fetch(egress, victim.url, permission((), [victim.url], ()), LIMITS)
