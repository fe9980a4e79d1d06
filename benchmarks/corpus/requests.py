"""Requests in a form in which two builders can be compared: what a server would read, not how it is spelt."""

import json
from email.parser import BytesParser
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Read(NamedTuple):
    """A request as its server reads it; names of headers in small letters."""

    method: str
    origin: str
    path: list[str]
    query: list[tuple[str, str]]
    headers: dict[str, str]
    cookies: list[str]
    media: str
    body: Any

    def differs_from(self, other: "Read") -> list[str]:
        """The fields that are not equal."""
        return [name for name in self._fields if getattr(self, name) != getattr(other, name)]


def read(method: str, url: str, headers: dict[str, str], body: str) -> Read:
    """The request of this method, URL, headers and content."""
    split = urlsplit(url)
    small = {name.lower(): text.strip() for name, text in headers.items()}
    content_type, cookie = small.pop("content-type", ""), small.pop("cookie", "")
    return Read(
        method=method,
        origin=f"{split.scheme}://{split.netloc}".lower().removesuffix(_DEFAULT_PORTS.get(split.scheme, "")),
        path=[unquote(segment) for segment in split.path.split("/")],
        query=sorted(parse_qsl(split.query, keep_blank_values=True)),
        headers=small,
        cookies=sorted(unquote(pair.strip()) for pair in cookie.split(";") if pair.strip()),
        media=content_type.partition(";")[0].lower(),
        body=_content(content_type, body),
    )


def _content(content_type: str, body: str) -> Any:
    media = content_type.partition(";")[0].lower()
    if "json" in media:
        return json.loads(body) if body else None
    if media == "application/x-www-form-urlencoded":
        return sorted(parse_qsl(body, keep_blank_values=True))
    if media == "multipart/form-data":
        message = BytesParser().parsebytes(f"content-type: {content_type}\r\n\r\n{body}".encode())
        parts: Any = message.get_payload()
        if isinstance(parts, str):
            return parts
        return sorted(
            (str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True).decode())
            for part in parts
        )
    return body
