"""Tools that want to know who asks: each way of saying it, and that what is secret stays so."""

import base64
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.egress.client import Egress, Limits
from gateway.egress.dispatch import Dispatcher, Reply
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.secrets import Secrets
from gateway.store import ToolsetOptions, ToolsetRow
from gateway.tools.http_tools import HttpTool
from gateway.tools.toolsets import read_toolset
from tests.outside import outside, response, says
from umi.errors import BadInput

SECRET = "s3cr3t/key+word"
LIMITS = Limits(seconds=3.0)
KEY = {"type": "apiKey", "in": "header", "name": "X-Key"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMI_SECRET_WORD", SECRET)
    monkeypatch.setenv("UMI_SECRET_PAIR", f"ann:{SECRET}")
    monkeypatch.setenv("OTHER_SECRET", SECRET)


def row(url: str, schemes: dict[str, Any], secrets: dict[str, str], **operation: Any) -> ToolsetRow:
    """A toolset with one operation, at `url`."""
    get = {"operationId": "x", **operation}
    document: dict[str, Any] = {"servers": [{"url": url}], "paths": {"/x": {"get": get}}}
    if "swagger" in operation:
        document = {"swagger": "2.0", "host": url.partition("://")[2], "schemes": ["http"], "paths": document["paths"]}
        document["securityDefinitions"] = schemes
    else:
        document |= {"openapi": "3.0.3", "components": {"securitySchemes": schemes}}
    return ToolsetRow(name="t", document=document, options=ToolsetOptions(allow=("127.0.0.1",), secrets=secrets))


def tool(*given: Any, **operation: Any) -> HttpTool:
    return read_toolset(row(*given, **operation)).tools[0]


@asynccontextmanager
async def dispatching(directory: Path | None = None) -> AsyncGenerator[Dispatcher]:
    async with Egress(Hosts(8, 5, 1.0)) as egress:
        yield Dispatcher(egress, Keyring(egress, Secrets(directory), LIMITS), LIMITS)


async def call(dispatcher: Dispatcher, called: HttpTool) -> Reply:
    return await dispatcher.send(called.request({}), called.permission, called.keys)


BASIC = base64.b64encode(f"ann:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("scheme", "reference", "expected"),
    [
        (KEY, "env:UMI_SECRET_WORD", f"\r\nx-key: {SECRET}\r\n"),
        ({"type": "apiKey", "in": "query", "name": "key"}, "env:UMI_SECRET_WORD", "/x?key=s3cr3t/key%2bword "),
        (
            {"type": "apiKey", "in": "cookie", "name": "Sid"},
            "env:UMI_SECRET_WORD",
            "cookie: sid=s3cr3t%2fkey%2bword\r\n",
        ),
        ({"type": "http", "scheme": "Bearer"}, "env:UMI_SECRET_WORD", f"authorization: bearer {SECRET}\r\n"),
        ({"type": "http", "scheme": "basic"}, "env:UMI_SECRET_PAIR", f"authorization: basic {BASIC.lower()}\r\n"),
        (KEY, "file:word", f"\r\nx-key: {SECRET}\r\n"),
    ],
)
async def test_each_scheme_travels_in_its_place(scheme: Any, reference: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text(SECRET + "\n")
    async with outside() as own, dispatching(tmp_path) as dispatcher:
        reply = await call(dispatcher, tool(own.url, {"s": scheme}, {"s": reference}, security=[{"s": []}]))
    assert reply.observation == "ok"
    assert expected in own.requests[0][0].lower()


@pytest.mark.parametrize("security", [None, [{"s": []}], [{"missing": []}, {"s": []}]])
async def test_the_first_alternative_with_secrets_is_used(security: Any) -> None:
    fields = {} if security is None else {"security": security}
    assert [
        key.scheme.name for key in tool("http://127.0.0.1:9", {"s": KEY}, {"s": "env:UMI_SECRET_WORD"}, **fields).keys
    ] == ["X-Key"]
    assert tool("http://127.0.0.1:9", {"s": KEY}, {"s": "env:UMI_SECRET_WORD"}, security=[]).keys == ()
    assert tool("http://127.0.0.1:9", {"s": KEY}, {}, **fields).keys == ()


def test_swagger_2_has_schemes_as_well_and_a_model_is_not_asked_for_what_a_key_fills_in() -> None:
    asked = [
        {"name": "x-key", "in": "header", "required": True, "type": "string"},
        {"name": "q", "in": "query", "type": "string"},
    ]
    made = tool("http://127.0.0.1:9", {"s": KEY}, {"s": "env:UMI_SECRET_WORD"}, swagger=True, parameters=asked)
    assert len(made.keys) == 1
    assert list(made.operation.tool.parameters["properties"]) == ["q"]
    assert made.operation.tool.parameters["required"] == []


async def test_a_secret_that_a_tool_repeats_is_cut_from_the_observation_and_in_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said = json.dumps({"plain": SECRET, "long": "x" * 290 + SECRET, "url": "s3cr3t%2Fkey%2Bword", "basic": BASIC})
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET)
    body = f'{{"said": {said}, "escaped": "{escaped}"}}'.encode()
    schemes = {"b": {"type": "http", "scheme": "basic"}, "q": {"type": "apiKey", "in": "query", "name": "key"}}
    secrets = {"b": "env:UMI_SECRET_PAIR", "q": "env:UMI_SECRET_WORD"}
    for status in (200, 400):
        async with (
            outside(says(response(body, status, content_type="application/json"))) as own,
            dispatching() as dispatcher,
        ):
            called = tool(own.url, schemes, secrets, security=[{"b": [], "q": []}])
            reply = await call(dispatcher, called)
        assert "key=s3cr3t" in own.requests[0][0]
        assert "[secret]" in reply.observation
        for text in (reply.observation, caplog.text, repr(called), called.request({}).model_dump_json()):
            assert not [leak for leak in (SECRET, "s3cr3t", BASIC) if leak in text]


@pytest.mark.parametrize(
    "reference",
    ["env:OTHER_SECRET", "env:PATH", "env:UMI_SECRET_ABSENT", "env:UMI_SECRET_../x", "file:../outside", "file:link",
     "file:/etc/passwd", "file:.hidden", "file:absent", "file:folder", "file:..", "file:", SECRET, "", "literal:x",
     "env:",
     "ENV:UMI_SECRET_WORD", "file:two\nlines", "file:short", "file:lines"],
)  # fmt: skip
def test_a_reference_leads_nowhere_but_to_what_is_set_aside(reference: str, tmp_path: Path) -> None:
    home = tmp_path / "secrets"
    (home / "folder").mkdir(parents=True)
    (tmp_path / "outside").write_text(SECRET)
    (home / "link").symlink_to(tmp_path / "outside")
    (home / ".hidden").write_text(SECRET)
    (home / "lines").write_text(f"{SECRET}\nx-evil: 1")
    (home / "short").write_text("abc")
    with pytest.raises(BadInput) as refused:
        Secrets(home).read(reference)
    assert SECRET not in str(refused.value)
    with pytest.raises(BadInput):
        Secrets(None).read("file:word")


async def test_a_token_is_fetched_once_kept_and_fetched_anew_when_it_is_refused() -> None:
    def token(text: str) -> bytes:
        body = json.dumps({"access_token": text, "expires_in": 3600}).encode()
        return response(body, content_type="application/json")

    refused = response(b'{"detail": "old: first-token"}', 401, content_type="application/json")
    async with (
        outside(says(token("first-token")), says(token("second-token"))) as issuer,
        outside(says(response()), says(response()), says(refused), says(response(b"second-token"))) as own,
        dispatching() as dispatcher,
    ):
        flows = {"clientCredentials": {"tokenUrl": f"{issuer.url}/token", "scopes": {}}}
        schemes = {"o": {"type": "oauth2", "flows": flows}}
        called = tool(own.url, schemes, {"o": "env:UMI_SECRET_PAIR"}, security=[{"o": ["read", "write"]}])
        assert [(await call(dispatcher, called)).observation for _ in range(3)] == ["ok", "ok", "[secret]"]
    sent = [head.lower().partition("authorization: ")[2].partition("\r\n")[0] for head, _ in own.requests]
    assert sent == [*["bearer first-token"] * 3, "bearer second-token"]
    assert [body for _, body in issuer.requests] == [b"grant_type=client_credentials&scope=read+write"] * 2
    assert "authorization: basic " in issuer.requests[0][0].lower()


@pytest.mark.parametrize("answer", [response(b"no", 401), response(b"[]"), response(b'{"access_token": "a\\nb"}')])
async def test_without_a_token_nothing_is_sent(answer: bytes) -> None:
    async with outside(says(answer)) as issuer, outside() as own, dispatching() as dispatcher:
        schemes = {"o": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": issuer.url}}}}
        reply = await call(dispatcher, tool(own.url, schemes, {"o": "env:UMI_SECRET_PAIR"}))
        assert reply.observation.startswith("Not sent: its token service")
        assert own.requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secrets": {"nonesuch": "env:UMI_SECRET_WORD"}}, r"no usable security scheme 'nonesuch' \(s\)"),
        ({"schemes": {"s": {"type": "oauth2", "flow": "application", "tokenUrl": "http://e.org/"}}}, "allow its host"),
    ],
)  # fmt: skip
def test_a_secret_is_bound_to_a_scheme_and_to_hosts_that_were_named(change: dict[str, Any], message: str) -> None:
    given = {"url": "http://127.0.0.1:9", "schemes": {"s": KEY}, "secrets": {"s": "env:UMI_SECRET_WORD"}, **change}
    with pytest.raises(BadInput, match=message):
        read_toolset(row(**given))


def test_secrets_do_not_go_to_every_host_that_a_document_lists() -> None:
    made = row("http://a.example", {"s": KEY}, {"s": "env:UMI_SECRET_WORD"})
    other = {"get": {"operationId": "y"}, "servers": [{"url": "http://evil.example"}]}
    document = {**made.document, "paths": {**made.document["paths"], "/y": other}}
    with pytest.raises(BadInput, match="at several hosts"):
        read_toolset(made.model_copy(update={"document": document}))
