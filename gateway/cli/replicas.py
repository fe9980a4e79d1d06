"""Every replica of every role, and what it says of the weights it serves."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import ValidationError

from umi.roles import Role
from umi.trial import Tally
from umi.wire import Agreement, Replica


@dataclass(frozen=True)
class Report:
    """What one replica serves; `problem` says why it does not do what it should, or cannot be asked."""

    role: Role
    url: str
    generation: int | None = None
    stable: str = ""
    canary: str = ""
    problem: str | None = None
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    agreement: Agreement | None = None


def reports(urls: Mapping[Role, str]) -> list[Report]:
    """Ask every address that the name in a role's URL stands for."""
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        return [_report(client, role, url) for role, named in urls.items() for url in _addresses(named)]


def _addresses(url: str) -> list[str]:
    """The URL once for each address of its host; as it is when the name cannot be resolved."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found)
    named = (f"[{host}]" if ":" in host else host for host in hosts)
    return [urlunsplit(parts._replace(netloc=f"{host}:{parts.port or 80}")) for host in named]


def _report(client: httpx.Client, role: Role, url: str) -> Report:
    try:
        reply = client.get(f"{url}/v1/replica")
    except httpx.HTTPError as error:
        return Report(role, url, problem=f"cannot be asked: {error or type(error).__name__}")
    try:
        replica = Replica.model_validate_json(reply.content)
    except ValidationError:
        return Report(role, url, problem=f"is no role service: answers {reply.status_code}")
    if replica.role is not role:
        return Report(role, url, problem=f"is a {replica.role}")
    return Report(
        role=role,
        url=url,
        generation=replica.generation,
        stable=replica.stable or "",
        canary=replica.canary or "",
        problem=replica.problem,
        tallies=replica.tallies,
        agreement=replica.agreement,
    )
