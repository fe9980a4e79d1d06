"""Toolset documents: fetching them by URL and reading JSON or YAML."""

import asyncio
import json
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml

from gateway.egress.client import Egress, Limits, Outgoing
from gateway.egress.permission import Permission
from umi.errors import BadDocument, NoResponse, Unreachable
from umi.trajectory import JsonObject

_MAX_NODES = 4_000_000


async def fetch(egress: Egress, url: str, permission: Permission, limits: Limits) -> JsonObject:
    """The toolset document at `url`, its server address made absolute. Raises as `fetch_plain` does."""
    return with_server(await fetch_plain(egress, url, permission, limits), url)


async def fetch_plain(egress: Egress, url: str, permission: Permission, limits: Limits) -> JsonObject:
    """The JSON or YAML object at `url`.

    Raises Unreachable when `permission` does not admit it, there is no 200 in time, too much, or something that is
    neither JSON nor YAML; BadDocument when it is not a JSON object.
    """
    headers = {"accept": "application/json, application/yaml"}
    try:
        answer = await egress.send(Outgoing("GET", url, headers), permission, limits)
    except NoResponse as error:
        raise Unreachable(f"{url} {error}") from error
    if answer.status != 200:
        raise Unreachable(f"{url} answered {answer.status}")
    return await asyncio.to_thread(parse, url, answer.body)


def with_server(document: JsonObject, fetched_from: str) -> JsonObject:
    """The document with an absolute server; a relative one starts from where the document lies (OpenAPI 3, 4.8.5)."""
    if "swagger" in document:
        split = urlsplit(fetched_from)
        return {"host": split.netloc, "schemes": [split.scheme], **document}
    servers: Any = document.get("servers")
    first: Any = servers[0] if isinstance(servers, list) and servers else None
    given: JsonObject = first if isinstance(first, dict) else {}
    url = str(given.get("url", "/"))
    if "://" not in url:  # one with a scheme is absolute, even when a variable stands for it
        url = urljoin(fetched_from, url)
    return {**document, "servers": [{**given, "url": url}]}


def parse(url: str, content: bytes) -> JsonObject:
    """The JSON object that `content` holds as JSON or YAML; `url` is for messages. Raises as `fetch` does."""
    try:
        try:
            data = json.loads(content)
        except ValueError:
            data = _yaml(content)
        # YAML knows dates, number keys and references to itself; what is kept is plain JSON.
        data = json.loads(json.dumps(data, default=str))
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise Unreachable(f"{url} is neither JSON nor YAML") from error
    if isinstance(data, str):  # any line of text or HTML is a YAML string
        raise Unreachable(f"{url} is neither JSON nor YAML")
    if not isinstance(data, dict):
        raise BadDocument("not an OpenAPI document: not an object", "document")
    return data  # pyright: ignore[reportUnknownVariableType]


def _yaml(content: bytes) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C reads megabytes in time
    data = yaml.load(content, Loader=loader)
    if not _is_small(data):
        raise ValueError("its aliases stand for too much")
    return data


def _is_small(data: Any) -> bool:
    """Whether data can be kept with all of its aliases written out: a few lines of YAML can mean gigabytes."""
    left, rest = _MAX_NODES, [data]
    while rest and left > 0:
        item = rest.pop()
        left -= 1
        if isinstance(item, dict | list):
            left -= len(item)
            rest.extend(item.values() if isinstance(item, dict) else item)
    return left > 0
