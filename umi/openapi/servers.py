"""Where an operation's path is appended."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

from umi.errors import BadDocument
from umi.trajectory import JsonObject


def base_url(root: JsonObject, location: str | None, *levels: JsonObject) -> str:
    """The address of the first usable server of the innermost level that lists any, outermost last.

    `location` is where the document was fetched from. Raises BadDocument when none is absolute.
    """
    if "swagger" in root:
        listed = _swagger(root, location, levels[0] if levels else {})
    else:
        servers: Any = next((level["servers"] for level in (*levels, root) if level.get("servers")), [{"url": "/"}])
        listed = (
            [_filled(server) for server in servers[:20] if isinstance(server, dict)]
            if isinstance(servers, list)
            else []
        )
    for url in listed:
        if (absolute := _absolute(url, location)) is not None:
            return absolute
    tried = repr(listed[0]) if listed else "none is given"
    raise BadDocument(f"no absolute server address ({tried}); pass base_url", "base_url")


def moved(document: JsonObject, url: str) -> JsonObject:
    """The document with all its operations at `url`, whatever servers it names itself."""
    if "swagger" in document:
        split = urlsplit(url)
        document = {**document, "host": split.netloc, "basePath": split.path or "/", "schemes": [split.scheme]}
        dropped = "schemes"
    else:
        document, dropped = {**document, "servers": [{"url": url}]}, "servers"
    paths: Any = document.get("paths")
    if isinstance(paths, dict):
        document["paths"] = {path: _without(dropped, item) for path, item in paths.items()}
    return document


def _without(key: str, item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    kept = {name: value for name, value in item.items() if name != key}
    return {
        name: {k: v for k, v in value.items() if k != key} if isinstance(value, dict) else value
        for name, value in kept.items()
    }


def _filled(server: JsonObject) -> str:
    """A server's URL with its variables at their defaults."""
    variables: Any = server.get("variables")

    def value(match: re.Match[str]) -> str:
        variable: Any = variables.get(match[1]) if isinstance(variables, dict) else None
        if not isinstance(variable, dict):
            return match[0]
        values = [variable.get("default"), *(variable.get("enum") or [])[:1]]
        return str(next((value for value in values if value is not None), match[0]))

    return re.sub(r"{([^{}]*)}", value, str(server.get("url", "/")))


def _swagger(root: JsonObject, location: str | None, operation: JsonObject) -> list[str]:
    here = urlsplit(location or "")
    given: Any = operation.get("schemes") or root.get("schemes") or [here.scheme or "https"]
    schemes = [str(scheme) for scheme in given] if isinstance(given, list) else []
    host, path = root.get("host") or here.netloc, str(root.get("basePath") or "/")
    return [f"{scheme}://{host}/{path.lstrip('/')}" for scheme in _best(schemes)]


def _best(schemes: Iterable[str]) -> list[str]:
    known = [scheme for scheme in ("https", "http") if scheme in schemes]
    return known or ["https"]


def _absolute(url: str, location: str | None) -> str | None:
    """The URL when it can be called: http, a host, nothing that would change where it leads."""
    try:
        joined = urljoin(location or "", url.strip())
        split = urlsplit(joined)
        _ = split.port
    except ValueError:
        return None
    usable = split.scheme in {"http", "https"} and split.hostname and "@" not in split.netloc
    if not usable or re.search(r"[\s\\{}\x00-\x1f\x7f]", joined):
        return None
    return joined.partition("#")[0].partition("?")[0]
