"""Log lines: what they belong to is in them, secrets are not."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.egress.secrets import Secrets
from gateway.redaction import redacted
from umi import logs
from umi.logs import Style

LOG = logging.getLogger("umi.test")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where this process logs to, as if it were one of UMi's."""
    monkeypatch.setattr(logging.root, "handlers", [])
    levels = {name: logging.getLogger(name).level for name in ("", "umi", "uvicorn", "uvicorn.access")}
    for name in ("uvicorn", "uvicorn.access"):  # servers of other tests leave theirs behind
        logging.getLogger(name).setLevel(logging.NOTSET)
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    yield io.StringIO()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_lines_are_json_with_the_fields_that_are_bound(stream: io.StringIO) -> None:
    logs.configure("info", None, stream)
    LOG.debug("too little")
    LOG.info("before %d", 1)
    with logs.bound(run_id="r1", trace_id=None), logs.bound(tenant="acme"):
        LOG.warning("within")
    LOG.info("after")
    before, within, after = lines(stream)
    assert (before["message"], before["level"], before["logger"]) == ("before 1", "info", "umi.test")
    assert before["time"].endswith("Z")
    assert (within["run_id"], within["tenant"], "trace_id" in within) == ("r1", "acme", False)
    assert set(after) == {"time", "level", "logger", "message"}


async def test_tasks_keep_the_fields_that_were_bound_when_they_began(stream: io.StringIO) -> None:
    logs.configure("info", Style.JSON, stream)

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        LOG.info(name)

    tasks: list[asyncio.Task[None]] = []
    for name in ("r1", "r2"):
        with logs.bound(run_id=name):
            tasks.append(asyncio.create_task(work(name)))
    await asyncio.gather(*tasks)
    assert [line["run_id"] for line in lines(stream)] == [line["message"] for line in lines(stream)] == ["r1", "r2"]


@pytest.mark.parametrize(
    "text",
    [
        "headers: {'Authorization': 'Bearer s3cr3t-word'}",
        "(b'authorization', b'Basic s3cr3t-word')",
        "Authorization: s3cr3t-word",
        "token was Bearer s3cr3t-word-of-length",
        "key umi_0123abcd_s3cr3t-word-that-is-long-enough",
        "signed with whsec_s3cr3t+word/that+is+long==",
        "postgresql://umi:s3cr3t-word@db.internal/umi",
    ],
)
@pytest.mark.parametrize("style", list(Style))
def test_what_looks_like_a_secret_is_in_no_line(stream: io.StringIO, style: Style, text: str) -> None:
    logs.configure("info", style, stream)
    LOG.info("it said %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        LOG.exception("it failed")
    assert "s3cr3t" not in stream.getvalue()
    assert stream.getvalue().count(logs.CUT) == 2
    assert "ValueError" in stream.getvalue()


def test_the_access_log_tells_the_path_and_not_what_was_asked(stream: io.StringIO) -> None:
    logs.configure("info", Style.JSON, stream)
    arguments = ("127.0.0.1:9", "GET", "/v1/tools?query=my+illness", "1.1", 200)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', *arguments)
    [line] = lines(stream)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/tools", 200)
    assert "illness" not in stream.getvalue()


def test_nobody_can_write_a_line_of_their_own_into_a_log_of_text(stream: io.StringIO) -> None:
    logs.configure("info", Style.TEXT, stream)
    with logs.bound(run_id="r1"):
        LOG.info("it said %s", "x\n2026-01-01T00:00:00Z INFO forged")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("it said x")
    assert second.startswith("  2026-01-01") and second.endswith("[run_id=r1]")


def test_a_secret_that_was_read_or_fetched_is_cut_whatever_it_looks_like(stream: io.StringIO, tmp_path: Path) -> None:
    logs.configure("info", Style.JSON, stream)
    (tmp_path / "pair").write_text("ann:blue-horse")
    secrets = Secrets(tmp_path)
    with redacted(secrets):
        LOG.info("before it is known: blue-horse")
        assert secrets.read("file:pair") == "ann:blue-horse"
        secrets.remember("a-token")
        LOG.info("%s said %r", "it", "blue-horse and a-token")
        try:
            raise ValueError("blue-horse")
        except ValueError:
            LOG.exception("and again blue%2Dhorse")
    LOG.info("blue-horse")
    told = [line["message"] + line.get("traceback", "") for line in lines(stream)]
    assert ["blue-horse" in text for text in told] == [True, False, False, True]
    assert told[1] == "it said '[secret] and [secret]'"
    assert "ValueError: [secret]" in told[2]
    for number in range(2000):
        secrets.remember(f"token-{number}")
    assert len(secrets.known) == 1000


def test_what_libraries_tell_of_their_work_is_not_logged(stream: io.StringIO) -> None:
    logs.configure("debug", Style.JSON, stream)
    logging.getLogger("httpx").info("HTTP Request: GET http://tool/?key=s3cr3t")
    logging.getLogger("httpx").warning("careful")
    assert [line["message"] for line in lines(stream)] == ["careful"]
