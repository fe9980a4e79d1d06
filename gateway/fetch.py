"""Toolset documents: fetching them by URL and reading JSON or YAML."""

import asyncio
import json
from typing import Any
from urllib.parse import urljoin

import httpx
import yaml

from gateway.transport import SEND_ERRORS
from umi.errors import BadDocument, Unreachable
from umi.trajectory import JsonObject


async def fetch(client: httpx.AsyncClient, url: str, seconds: float, max_bytes: int) -> JsonObject:
    """The document at `url`, its server address made absolute.

    Raises Unreachable when there is no 200 in time, too much, or something that is neither JSON nor YAML;
    BadDocument when it is not a JSON object.
    """
    try:
        async with asyncio.timeout(seconds):
            content = await _download(client, url, max_bytes)
    except TimeoutError as error:
        raise Unreachable(f"{url} did not answer within {seconds:g} s") from error
    except SEND_ERRORS as error:
        raise Unreachable(f"{url} could not be fetched: {error or type(error).__name__}") from error
    document = await asyncio.to_thread(parse, url, content)
    return with_server(document, url)


def with_server(document: JsonObject, fetched_from: str) -> JsonObject:
    """The document with one absolute server; a relative one starts from where the document lies (OpenAPI 3, 4.8.5)."""
    servers: Any = document.get("servers")
    first: Any = servers[0] if isinstance(servers, list) and servers else None  # pyright: ignore[reportUnknownVariableType]
    url = str(first.get("url", "/")) if isinstance(first, dict) else "/"  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return {**document, "servers": [{"url": urljoin(fetched_from, url)}]}


async def _download(client: httpx.AsyncClient, url: str, max_bytes: int) -> bytes:
    async with client.stream("GET", url, headers={"accept": "application/json, application/yaml"}) as response:
        if response.status_code != 200:
            raise Unreachable(f"{url} answered {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise Unreachable(f"{url} is larger than {max_bytes} bytes")
    return bytes(body)


def parse(url: str, content: bytes) -> JsonObject:
    """The JSON object that `content` holds as JSON or YAML; `url` is for messages. Raises as `fetch` does."""
    try:
        try:
            data = json.loads(content)
        except ValueError:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C reads megabytes in time
            data = yaml.load(content, Loader=loader)
        # YAML knows dates, number keys and references to itself; what is kept is plain JSON.
        data = json.loads(json.dumps(data, default=str))
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise Unreachable(f"{url} is neither JSON nor YAML") from error
    if isinstance(data, str):  # any line of text or HTML is a YAML string
        raise Unreachable(f"{url} is neither JSON nor YAML")
    if not isinstance(data, dict):
        raise BadDocument("not an OpenAPI 3 document: not an object", "document")
    return data  # pyright: ignore[reportUnknownVariableType]
