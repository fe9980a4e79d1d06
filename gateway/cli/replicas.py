"""Every replica of every role, and what it says of the weights it serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from gateway.replicas import addresses
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


def reports(urls: Mapping[Role, str], token: str | None = None) -> list[Report]:
    """Ask every address that the name in a role's URL stands for. `token` is what the roles want to be shown."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(timeout=2.0, trust_env=False, headers=headers) as client:
        return [_report(client, role, url) for role, named in urls.items() for url in addresses(named)]


def _report(client: httpx.Client, role: Role, url: str) -> Report:
    try:
        reply = client.get(f"{url}/v1/replica")
    except httpx.HTTPError as error:
        return Report(role, url, problem=f"cannot be asked: {error or type(error).__name__}")
    if reply.status_code == 401:
        return Report(role, url, problem="wants another token: see UMI_ROLE_TOKEN")
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
