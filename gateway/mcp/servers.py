"""Where an MCP server is and how it is asked, read from its registration."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.egress.keys import Key
from gateway.egress.permission import Permission, permission
from gateway.store import ToolsetRow
from umi.errors import BadInput
from umi.openapi.inputs import OF_CLIENT
from umi.openapi.security import Kind, Scheme

BEARER = "bearer"
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_VARIABLE = re.compile(r"(?!LD_|DYLD_|UMI_)[A-Z_][A-Z0-9_]{0,99}")
INHERITED = ("HOME", "LANG", "PATH", "TMPDIR", "TZ")
"""All that a child sees of the gateway's own environment."""


@dataclass(frozen=True)
class Remote:
    """A server over streamable HTTP. Equal registrations are equal, so that they share a session."""

    tenant: str
    toolset: str
    url: str
    permission: Permission
    keys: tuple[Key, ...] = ()

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return self.url


@dataclass(frozen=True)
class Command:
    """A server that is a child process of the gateway; `env` names variables and the references of their secrets."""

    tenant: str
    toolset: str
    words: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The command line."""
        return shlex.join(self.words)


Server = Remote | Command


def server_of(row: ToolsetRow, trusted: Sequence[str] = ()) -> Server:
    """The MCP server of a toolset. Raises BadInput for what its registration must not say."""
    options = row.options
    assert options.mcp is not None
    if row.url is None:
        for name in options.mcp.env:
            if not _VARIABLE.fullmatch(name) or name in INHERITED:
                raise BadInput(f"{name[:100]!r} cannot be a variable of its environment", "mcp.env")
        return Command(row.tenant, row.name, options.mcp.command, tuple(sorted(options.mcp.env.items())))
    keys = tuple(Key(_scheme(name), reference) for name, reference in sorted(options.secrets.items()))
    return Remote(row.tenant, row.name, row.url, permission((), [row.url], options.allow, trusted), keys)


def _scheme(name: str) -> Scheme:
    if name == BEARER:
        return Scheme(kind=Kind.BEARER)
    if not _HEADER.fullmatch(name) or name.lower() in OF_CLIENT or name.lower().startswith("mcp-"):
        raise BadInput(f"a secret of an MCP server is named {BEARER}, or as the header it travels in", "secrets")
    return Scheme(kind=Kind.API_KEY, name=name)
