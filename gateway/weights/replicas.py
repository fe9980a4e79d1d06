"""Every replica of every role, and what it says of the weights it serves."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from gateway.replicas import addresses
from gateway.transport import SEND_ERRORS
from umi.roles import Role
from umi.trajectory import Frozen
from umi.wire import Replica

_PATIENCE = 2.0


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
    async with httpx.AsyncClient(timeout=None, trust_env=False, headers=headers) as client:
        return list(await asyncio.gather(*(_report(client, role, url) for role, url in asked)))


async def _looked_up(url: str) -> list[str]:
    try:
        return await asyncio.wait_for(asyncio.to_thread(addresses, url), _PATIENCE)
    except TimeoutError:
        return [url]


async def _report(client: httpx.AsyncClient, role: Role, url: str) -> Report:
    parts = urlsplit(url)
    address = parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    try:
        async with asyncio.timeout(_PATIENCE):
            reply = await client.get(f"{url}/v1/replica")
    except TimeoutError:
        return Report(role=role, address=address, problem=f"cannot be asked: no answer within {_PATIENCE:.0f} s")
    except SEND_ERRORS as error:
        return Report(role=role, address=address, problem=f"cannot be asked: {error or type(error).__name__}")
    if reply.status_code == 401:
        return Report(role=role, address=address, problem="wants another token: see UMI_ROLE_TOKEN")
    try:
        serves = Replica.model_validate_json(reply.content)
    except ValidationError:
        return Report(role=role, address=address, problem=f"is no role service: answers {reply.status_code}")
    if serves.role is not role:
        return Report(role=role, address=address, problem=f"is a {serves.role}")
    return Report(role=role, address=address, serves=serves, problem=serves.problem)
