"""What the store gives and takes."""

from enum import StrEnum

from pydantic import Field

from gateway.events import Outcome, RunStatus
from gateway.policy import Policy
from umi.openapi import Selection as OperationSelection
from umi.trajectory import Frozen, JsonObject

TENANT = r"^[a-z0-9][a-z0-9_-]{0,63}$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class Scope(StrEnum):
    """What a key may do for its tenant."""

    QUERY = "query"
    """Ask, and see, cancel and delete runs."""
    TOOLS = "tools"
    """Register and delete toolsets."""
    WEIGHTS = "weights"
    """See and change which weights the roles serve to all tenants."""
    ADMIN = "admin"
    """All of it, and read the gateway's metrics, which tell of all tenants."""


class Key(Frozen):
    """An API key, without the key itself. A limit that is None does not limit; times are seconds since the epoch."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    requests_per_minute: int | None = None
    concurrent_runs: int | None = None
    tokens_per_day: int | None = None
    created_at: float = 0.0
    revoked_at: float | None = None

    @property
    def has_quota(self) -> bool:
        """Whether a run may be refused because of others."""
        return self.concurrent_runs is not None or self.tokens_per_day is not None

    def may(self, scope: Scope) -> bool:
        """Whether the key has that scope, or is an admin's."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL = Key(id="", tenant="default", name="nobody's", scopes=frozenset(Scope))
"""Stands for the key of whoever asks a gateway that has no keys."""


class Claim(Frozen):
    """A client's word that a request is made once: its key, and a digest of what it asked for."""

    key: str
    digest: str


class Claimed(Claim):
    """A claim, and the run that was begun for it."""

    run_id: str


class Exceeded(Frozen):
    """A limit of a key that leaves no room for one more run now."""

    what: str
    limit: int
    retry_after: float


class Lease(Frozen):
    """Whose runs are, and until when (seconds since the epoch) nobody else may go on with them."""

    owner: str
    until: float


class Taken(Frozen):
    """A run that was taken over, and whose it is."""

    run_id: str
    tenant: str


class RunRow(Frozen):
    """A run as lists show it. `outcome` is None while it goes on."""

    run_id: str
    created_at: float
    query: str
    status: RunStatus
    outcome: Outcome | None


class McpOptions(Frozen):
    """How an MCP server is reached when it is not by the toolset's URL, and what is believed of it: see `McpBody`."""

    command: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict[str, str])
    trust_hints: bool = False


class Selection(Frozen):
    """Which of a tenant's runs; `since` and `until` (seconds since the epoch) are about when they began."""

    tenant: str
    since: float | None = None
    until: float | None = None
    outcome: Outcome | None = None


class DeliveryState(StrEnum):
    """Where a run's webhook stands."""

    WAITING = "waiting"
    """The run goes on."""
    PENDING = "pending"
    """It is to be sent, for the first time or again."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up."""


class Delivery(Frozen):
    """A run's webhook. `status` and `problem` tell of the last attempt, `due_at` of the next one, `at` of the last
    change, `created_at` of the run; times are seconds since the epoch."""

    run_id: str
    created_at: float
    url: str
    state: DeliveryState
    attempts: int
    at: float
    due_at: float | None
    status: int | None
    problem: str | None


class Due(Frozen):
    """A delivery that this gateway is to attempt now. `attempt` counts from 1."""

    run_id: str
    tenant: str
    url: str
    attempt: int


class SigningSecret(Frozen):
    """Which of a tenant's secrets signs, counted from 1, and since when."""

    generation: int
    rotated_at: float


class ToolsetOptions(Frozen):
    """What was said of a toolset beside its document: see `ToolsetBody`. Secrets are references, never values."""

    base_url: str | None = None
    allow: tuple[str, ...] = ()
    secrets: dict[str, str] = Field(default_factory=dict[str, str])
    references: dict[str, JsonObject | str] = Field(default_factory=dict[str, JsonObject | str])
    """Other documents that the document refers to, by URL; a text says why one could not be fetched."""
    select: OperationSelection = OperationSelection()
    policy: Policy = Policy.ALLOWED
    tool_policy: dict[str, Policy] = Field(default_factory=dict[str, Policy])
    mcp: McpOptions | None = None
    """For an MCP server, whose listing then is the document."""


class ToolsetRow(Frozen):
    """What a registration says, as it is kept: `document` has one absolute server URL. `version` is 0 until then."""

    name: str
    url: str | None = None
    document: JsonObject
    tenant: str = LOCAL.tenant
    options: ToolsetOptions = ToolsetOptions()
    version: int = 0


class ToolsetVersion(Frozen):
    """A version of a toolset, its content aside; times are seconds since the epoch.

    `operations` counts them by what became of them (imported, with_loss, refused, left_out); None for what was
    registered before versions were kept. `replaced_at` is when it was current for the last time, None while it is.
    """

    version: int
    current: bool
    registered_at: float
    replaced_at: float | None
    digest: str
    operations: dict[str, int] | None
