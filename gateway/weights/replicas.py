"""Every replica of every role, and what it says of the weights it serves."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from gateway.replicas import addresses
from gateway.transport import SEND_ERRORS, Answer, RoleClient
from umi.roles import Role
from umi.trajectory import Frozen
from umi.wire import Replica

_PATIENCE = 2.0
_BEHIND = TypeAdapter(dict[str, Replica])
"""What a balancer answers at `/v1/replicas` (deploy/ray): each of those behind it, by a name."""


class Report(Frozen):
    """What the replica at `address` (host and port) says; `problem` says why it does not do what it should, or cannot
    be asked."""

    role: Role
    address: str
    serves: Replica | None = None
    problem: str | None = None

    @property
    def generation(self) -> int | None:
        """Of the release that it has taken over."""
        return self.serves.generation if self.serves else None


async def reports(urls: Mapping[Role, str], token: str | None = None) -> list[Report]:
    """Ask every address that the name in a role's URL stands for, all at once; the roles want to be shown `token`."""
    found = await asyncio.gather(*(_looked_up(url) for url in urls.values()))
    asked = [(role, url) for role, replicas in zip(urls, found, strict=True) for url in replicas]
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with RoleClient(connections=0) as client:  # as many as there are replicas
        told = await asyncio.gather(*(_reports(client, headers, role, url) for role, url in asked))
    return [report for several in told for report in several]


async def _looked_up(url: str) -> list[str]:
    try:
        return await asyncio.wait_for(asyncio.to_thread(addresses, url), _PATIENCE)
    except TimeoutError:
        return [url]


async def _reports(client: RoleClient, headers: Mapping[str, str], role: Role, url: str) -> list[Report]:
    """Of the replica at an address; of all of them where that is a balancer's, which can list those behind it."""
    parts = urlsplit(url)
    address = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    try:
        async with asyncio.timeout(_PATIENCE):
            reply = await client.get(f"{url}/v1/replicas", headers)
            if reply.status == 404:
                reply = await client.get(f"{url}/v1/replica", headers)
                return [_read(role, address, reply)]
    except TimeoutError:
        return [Report(role=role, address=address, problem=f"cannot be asked: no answer within {_PATIENCE:.0f} s")]
    except SEND_ERRORS as error:
        return [Report(role=role, address=address, problem=f"cannot be asked: {error or type(error).__name__}")]
    try:
        behind = _BEHIND.validate_json(reply.body)
    except ValidationError:
        return [_read(role, address, reply)]
    return [_report(role, name, serves) for name, serves in behind.items()]


def _read(role: Role, address: str, reply: Answer) -> Report:
    if reply.status == 401:
        return Report(role=role, address=address, problem="wants another token: see UMI_ROLE_TOKEN")
    try:
        return _report(role, address, Replica.model_validate_json(reply.body))
    except ValidationError:
        return Report(role=role, address=address, problem=f"is no role service: answers {reply.status}")


def _report(role: Role, address: str, serves: Replica) -> Report:
    if serves.role is not role:
        return Report(role=role, address=address, problem=f"is a {serves.role}")
    return Report(role=role, address=address, serves=serves, problem=serves.problem)
