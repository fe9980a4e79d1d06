"""Every replica of every role, and what it says of the weights it serves."""

import asyncio
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import ValidationError

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


async def reports(client: httpx.AsyncClient, urls: Mapping[Role, str]) -> list[Report]:
    """Ask every address that the name in a role's URL stands for, all at once."""
    found = await asyncio.gather(*(_addresses(url) for url in urls.values()))
    asked = [(role, url, host) for (role, url), hosts in zip(urls.items(), found, strict=True) for host in hosts]
    return list(await asyncio.gather(*(_report(client, role, url, host) for role, url, host in asked)))


async def _addresses(url: str) -> list[str]:
    """The addresses of the URL's host, of one family: a replica that has both would be two. The host itself when it
    cannot be resolved."""
    parts = urlsplit(url)
    try:
        asked = asyncio.to_thread(socket.getaddrinfo, parts.hostname, None, type=socket.SOCK_STREAM)
        resolved = await asyncio.wait_for(asked, _PATIENCE)
    except (OSError, UnicodeError):  # TimeoutError is an OSError
        return [parts.hostname or ""]
    family = socket.AF_INET if any(entry[0] == socket.AF_INET for entry in resolved) else socket.AF_INET6
    return list(dict.fromkeys(str(entry[4][0]) for entry in resolved if entry[0] == family))


async def _report(client: httpx.AsyncClient, role: Role, url: str, host: str) -> Report:
    """The host's name still goes with the request, for virtual hosts and certificates."""
    parts = urlsplit(url)
    named = f"[{host}]" if ":" in host else host
    address = f"{named}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    try:
        async with asyncio.timeout(_PATIENCE):
            reply = await client.get(
                urlunsplit(parts._replace(netloc=address)) + "/v1/replica",
                headers={"host": parts.netloc},
                extensions={"sni_hostname": parts.hostname},
            )
    except TimeoutError:
        return Report(role=role, address=address, problem=f"cannot be asked: no answer within {_PATIENCE:.0f} s")
    except SEND_ERRORS as error:
        return Report(role=role, address=address, problem=f"cannot be asked: {error or type(error).__name__}")
    try:
        serves = Replica.model_validate_json(reply.content)
    except ValidationError:
        return Report(role=role, address=address, problem=f"is no role service: answers {reply.status_code}")
    if serves.role is not role:
        return Report(role=role, address=address, problem=f"is a {serves.role}")
    return Report(role=role, address=address, serves=serves, problem=serves.problem)
