"""Log lines of every UMi process: JSON for whatever collects them, text for people.

`bound` names what a record belongs to; every record within has these fields, also in tasks that are begun there.
"""

import json
import logging
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TextIO

CUT = "[secret]"
_encode = json.JSONEncoder(ensure_ascii=False).encode
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("umi_log_fields", default=MappingProxyType({}))
_ACCESS = "uvicorn.access"
_HIDDEN = (
    (re.compile(r"(?i)(authorization['\"]?\s*[:=,]\s*b?['\"]?)(?:[a-z]+ )?[^\s'\",;})]+"), rf"\g<1>{CUT}"),
    (re.compile(r"(?i)\b(bearer )[a-z0-9._~+/=-]{16,}"), rf"\g<1>{CUT}"),
    (re.compile(r"\bumi_[0-9a-f]{8}_[A-Za-z0-9_-]{20,}"), CUT),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]{16,}"), CUT),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\g<1>{CUT}@"),
)
"""Authorization headers, bearer tokens, UMi's own keys, signing secrets, passwords in URLs."""


class Style(StrEnum):
    """How lines are written."""

    JSON = "json"
    TEXT = "text"


@contextmanager
def bound(**fields: str | None) -> Generator[None]:
    """Records within have these fields as well; those that are None are left out."""
    more = {name: value for name, value in fields.items() if value is not None}
    token = _FIELDS.set({**_FIELDS.get(), **more})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def configure(level: str, style: Style | None = None, stream: TextIO | None = None) -> None:
    """Let this process write to `stream` (stderr) what UMi and uvicorn log from `level` on, and what libraries warn of.

    Without a style: text on a terminal, else JSON.
    """
    to = stream or sys.stderr
    chosen = style or (Style.TEXT if to.isatty() else Style.JSON)
    handler = logging.StreamHandler(to)
    handler.setFormatter(JsonLines() if chosen is Style.JSON else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line shows them
    for name in ("umi", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())


def hidden(text: str) -> str:
    """`text` without what looks like a secret."""
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, the bound fields, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_FIELDS.get(),
            **(request := _request(record)),
            "message": _message(record, request),
        }
        if trace := _traceback(self, record):
            line["traceback"] = trace
        return _encode(line)


class TextLines(logging.Formatter):
    """Time, level, message, the bound fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        fields = " ".join(f"{name}={value}" for name, value in _FIELDS.get().items())
        message = _message(record, _request(record)).replace(
            "\n", "\n  "
        )  # what is not ours cannot begin a line of its own
        line = f"{_time(record)} {record.levelname:<7} {message}" + (f"  [{fields}]" if fields else "")
        trace = _traceback(self, record)
        return f"{line}\n{trace}" if trace else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request(record: logging.LogRecord) -> dict[str, str | int]:
    """What uvicorn's access log says of a request, without the query: it may hold what a user asked."""
    if record.name != _ACCESS or not isinstance(record.args, tuple) or len(record.args) != 5:
        return {}
    client, method, path, _, status = record.args
    where = hidden(str(path).partition("?")[0])
    return {"client": str(client), "method": str(method), "path": where, "status": int(str(status))}


def _message(record: logging.LogRecord, request: Mapping[str, str | int]) -> str:
    if request:
        return f"{request['method']} {request['path']} {request['status']}"
    return hidden(record.getMessage())


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")
    return hidden(text)
