"""How a document lets its clients show who they are: security schemes, and which of them an operation wants."""

from collections.abc import Container
from enum import StrEnum
from itertools import islice
from typing import Any
from urllib.parse import urljoin

from umi.openapi.model import Place, Security
from umi.trajectory import Frozen, JsonObject

_MOST = 50
"""Alternatives, schemes and scopes that are looked at: a document is not trusted to be short."""


class Kind(StrEnum):
    """Ways that a client without a person in front of it can use."""

    API_KEY = "apiKey"
    BASIC = "basic"
    BEARER = "bearer"
    CLIENT_CREDENTIALS = "client credentials"


class Scheme(Frozen):
    """One scheme. `place` and `name` are those of an API key, `token_url` that of OAuth 2's client credentials."""

    kind: Kind
    place: Place = Place.HEADER
    name: str = "authorization"
    token_url: str = ""


def read_schemes(document: JsonObject, location: str | None = None) -> dict[str, Scheme]:
    """The usable schemes of an OpenAPI 3 or Swagger 2.0 document by name."""
    components: Any = document.get("components")
    listed: Any = components.get("securitySchemes") if isinstance(components, dict) else None
    listed = listed or document.get("securityDefinitions")
    if not isinstance(listed, dict):
        return {}
    read = {str(name): _scheme(each, location or "") for name, each in listed.items() if isinstance(each, dict)}
    return {name: scheme for name, scheme in read.items() if scheme is not None}


def read_security(*levels: JsonObject) -> Security | None:
    """The alternatives that the innermost level names, each a set of schemes; None when nobody says anything."""
    given: Any = next((level["security"] for level in levels if "security" in level), None)
    if not isinstance(given, list):
        return None
    return tuple(
        tuple((str(name), tuple(map(str, (scopes or [])[:_MOST]))) for name, scopes in islice(each.items(), _MOST))
        for each in given[:_MOST]
        if isinstance(each, dict)
    )


def chosen(security: Security | None, bound: Container[str], every: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Schemes and scopes to use: the first alternative whose schemes are all `bound`; `every` where nothing is said."""
    if security is None:
        return dict.fromkeys(every, ())
    return next((dict(each) for each in security if each and all(name in bound for name, _ in each)), {})


def _scheme(given: JsonObject, location: str) -> Scheme | None:
    match given.get("type"):
        case "apiKey" if given.get("in") in ("header", "query", "cookie") and given.get("name"):
            return Scheme(kind=Kind.API_KEY, place=Place(given["in"]), name=str(given["name"]))
        case "basic":
            return Scheme(kind=Kind.BASIC)
        case "http" if str(given.get("scheme")).lower() in ("basic", "bearer"):
            return Scheme(kind=Kind(str(given["scheme"]).lower()))
        case "oauth2":
            flows: Any = given.get("flows")
            flow: Any = flows.get("clientCredentials") if isinstance(flows, dict) else given
            if (
                not isinstance(flow, dict)
                or not flow.get("tokenUrl")
                or given.get("flow", "application") != "application"
            ):
                return None
            return Scheme(kind=Kind.CLIENT_CREDENTIALS, token_url=urljoin(location, str(flow["tokenUrl"])))
        case _:
            return None
