"""FastMCP's request director, run in an environment of its own: operations and arguments in, requests out.

Reads one JSON object a line, `{"file", "cases": [{"method", "path", "base_url", "arguments"}]}` with the arguments by
place, and writes one list of requests, or reasons why there is none, for each. Imports nothing of UMi.
"""

import json
import logging
import sys
from typing import Any

from fastmcp.utilities.openapi import parse_openapi_to_http_routes
from fastmcp.utilities.openapi.director import RequestDirector
from jsonschema_path import SchemaPath


def main() -> None:
    """Answer every line of the standard input."""
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(_built(job)), flush=True)


def _built(job: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        with open(job["file"], encoding="utf-8") as file:
            document = json.load(file)
        routes = {(route.method, route.path): route for route in parse_openapi_to_http_routes(document)}
        director = RequestDirector(SchemaPath.from_dict(document))
    except Exception as error:  # the edge of a foreign program: what it cannot read is counted
        return [{"refused": f"document: {type(error).__name__}"} for _ in job["cases"]]
    return [_request(director, routes.get((case["method"], case["path"])), case) for case in job["cases"]]


def _request(director: RequestDirector, route: Any, case: dict[str, Any]) -> dict[str, Any]:
    if route is None:
        return {"refused": "operation unknown"}
    try:
        request = director.build(route, _flat(route, case["arguments"]), case["base_url"])
        headers = {name: text for name, text in request.headers.items() if name not in ("host", "content-length")}
        return {"method": request.method, "url": str(request.url), "headers": headers, "body": _body(request)}
    except Exception as error:  # the same for what it cannot build
        return {"refused": f"{type(error).__name__}: {error}"[:120]}


def _body(request: Any) -> str:
    return request.read().decode("utf-8", "replace")


def _flat(route: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments under the names that FastMCP gives them."""
    names = {(where["location"], where["openapi_name"]): name for name, where in route.parameter_map.items()}
    flat: dict[str, Any] = {}
    for place in ("path", "query", "header", "cookie"):
        for target, value in arguments.get(place, {}).items():
            if (place, target) not in names:
                raise LookupError(f"no {place} parameter {target}")
            flat[names[place, target]] = value
    if "body" not in arguments:
        return flat
    body = arguments["body"]
    fields = [target for place, target in names if place == "body"]
    if isinstance(body, dict) and set(body) <= set(fields):
        return flat | {names["body", target]: value for target, value in body.items()}
    if len(fields) != 1:
        raise LookupError("no argument for this body")
    return flat | {names["body", fields[0]]: body}


if __name__ == "__main__":
    main()
