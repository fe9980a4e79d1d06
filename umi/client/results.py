"""What the gateway answers, as its clients read it.

The gateway's own models are strict and closed; these are open, so that a client goes on understanding a gateway that
is newer than itself: unknown fields are kept, and a word such as an outcome is a plain string. That no field is
missing here is checked against the gateway's OpenAPI document (tests/contract/test_client.py).
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from umi.trajectory import JsonObject


class Result(BaseModel):
    """An immutable value that keeps the fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Problem(Result):
    """Why a request, or a run, failed (RFC 9457). `type` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: list[JsonObject] | None = None
    run_id: str | None = None
    role: str | None = None
    retry_after: float | None = None


class Call(Result):
    """A tool and its arguments, as the caller wrote them."""

    tool: str
    arguments: JsonObject = {}


class Usage(Result):
    """What one generation of a role cost; `seconds` is time inside the role's service."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int
    shortened_observations: int = 0
    dropped_steps: int = 0
    seconds: float


class SentRequest(Result):
    """A tool call's request as it was sent; a body that is not JSON is text."""

    method: str
    url: str
    body: Any = None


class StepSeconds(Result):
    """Where a step's time went."""

    plan: float
    call: float | None = None
    tool: float | None = None


class Step(Result):
    """One step. `turn` is caller, conclusion or give up; `usage` and `versions` are by role."""

    number: int
    rationale: str
    turn: str
    call: Call | None = None
    toolset: str | None = None
    request: SentRequest | None = None
    response_status: int | None = None
    observation: str | None = None
    tool_outcome: str | None = None
    seconds: StepSeconds
    usage: dict[str, Usage]
    versions: dict[str, str]
    needs_approval: bool = False
    approval: JsonObject | None = None


class UsageTotal(Result):
    """What a role cost over a whole run."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class Timings(Result):
    """Seconds of the whole run, and in it of each role and of the tools."""

    total: float | None = None
    planner: float = 0.0
    caller: float = 0.0
    summarizer: float = 0.0
    tools: float = 0.0


class ToolSource(Result):
    """Which version of which toolset a tool is of."""

    toolset: str
    version: int


class Run(Result):
    """A run. `status` is running, requires_action or ended; `outcome` is None until it has ended, then answered,
    gave_up, max_steps, deadline, failed, cancelled or expired. `required_action` is the call that waits for approval,
    `sources` tells by tool name what each tool meant in this run.
    """

    run_id: str
    created_at: float
    query: str
    tools: list[str]
    sources: dict[str, ToolSource] = {}
    max_steps: int
    deadline_seconds: float
    outcome: str | None = None
    answer: str | None = None
    problem: Problem | None = None
    steps: list[Step] = []
    usage: dict[str, UsageTotal] = {}
    timings: Timings = Timings()
    summarizer_version: str | None = None
    status: str = "running"
    required_action: JsonObject | None = None
    ended_at: float | None = None


class RunSummary(Result):
    """A run as lists show it."""

    run_id: str
    created_at: float
    query: str
    outcome: str | None
    status: str = "running"


class RunPage(Result):
    """Some runs, newest first, and the cursor of those that follow."""

    runs: list[RunSummary]
    next: str | None = None


class ToolSpec(Result):
    """A tool as a model sees it; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: JsonObject = {}


class Tool(Result):
    """A registered tool. `version` is that of its toolset."""

    name: str
    summary: str
    toolset: str
    version: int = 0
    method: str
    path: str
    spec: ToolSpec
    changes_state: bool = True
    needs_approval: bool = False


class Toolset(Result):
    """A registered toolset and the names of its tools."""

    name: str
    version: int = 0
    url: str | None
    base_url: str
    tools: list[str]
    select: JsonObject = {}
    policy: str = "allowed"
    tool_policy: dict[str, str] = {}
    withheld: list[str] = []


class OperationReport(Result):
    """What became of one operation of a document: imported, with_loss, refused or left_out."""

    method: str
    path: str
    name: str | None = None
    status: str
    losses: list[str] = []
    reason: str | None = None
    field: str | None = None


class RegisteredToolset(Toolset):
    """A toolset by itself, and what became of its operations."""

    report: list[OperationReport]


class ToolsetVersion(Result):
    """A version of a toolset that is kept. `operations` counts them by what became of them."""

    version: int
    current: bool
    registered_at: float
    replaced_at: float | None
    digest: str
    operations: dict[str, int] | None


class VersionContent(RegisteredToolset):
    """A toolset as it was registered as that version, and its tools as models saw them."""

    current: bool
    registered_at: float
    replaced_at: float | None
    digest: str
    specs: list[Tool]
    document: JsonObject


class Model(Result):
    """A model as OpenAI's API lists it: the agent."""

    id: str
    object: str
    created: int
    owned_by: str


class Models(Result):
    """All models."""

    data: list[Model] = Field(default_factory=list[Model])
