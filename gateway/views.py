"""What the API shows of a run, folded from its events: the log is the only source."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from gateway.events import (
    Approval,
    Called,
    Event,
    Observed,
    Offered,
    Outcome,
    Planned,
    RequiresAction,
    RunCompleted,
    RunCreated,
    RunStatus,
    Sending,
    ToolOutcome,
    ToolSource,
)
from gateway.problems import RunProblem
from umi.mcp import METHOD, McpRequest
from umi.openapi import HttpRequest
from umi.roles import Role, Turn
from umi.trajectory import Call
from umi.wire import Usage


class SentRequest(BaseModel):
    """The request of a tool call as it is sent; a body that is not JSON is text.

    For an MCP server the method is MCP's, the URL the server's or its command line.
    """

    method: str
    url: str
    body: Any = None

    @classmethod
    def of(cls, request: HttpRequest | McpRequest) -> "SentRequest":
        """What is shown of `request`."""
        if isinstance(request, McpRequest):
            body = {"name": request.tool, "arguments": request.arguments}
            return cls(method=METHOD, url=request.server, body=body)
        body = request.json_body if request.text_body is None else request.text_body
        return cls(method=request.method, url=request.url, body=body)


class RequiredAction(BaseModel):
    """The call that a run waits with, and what is sent once it is approved. `expires_at` is seconds since the epoch."""

    step: int
    call: Call
    toolset: str
    request: SentRequest
    expires_at: float


class ApprovalView(BaseModel):
    """A person's decision on a call. `by` is the id of their key, if the gateway has keys; `at` as above."""

    approve: bool
    reason: str | None
    by: str | None
    at: float


class StepSeconds(BaseModel):
    """Where a step's time went, as seen from the gateway."""

    plan: float
    call: float | None = None
    tool: float | None = None


class StepView(BaseModel):
    """One step. `usage` and `versions` are per role: what its turn cost and the weights that took it.

    `request` of a call that needs approval is sent once it has it.
    """

    number: int
    rationale: str
    turn: Turn
    call: Call | None = None
    toolset: str | None = None
    request: SentRequest | None = None
    needs_approval: bool = False
    approval: ApprovalView | None = None
    response_status: int | None = None
    observation: str | None = None
    tool_outcome: ToolOutcome | None = None
    seconds: StepSeconds
    usage: dict[Role, Usage]
    versions: dict[Role, str]


class UsageTotal(BaseModel):
    """What a role cost over a whole run."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def add(self, usage: Usage) -> None:
        """Count one more generation."""
        self.requests += 1
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.completion_tokens += usage.completion_tokens
        self.seconds += usage.seconds


class Timings(BaseModel):
    """Seconds of the whole run, without those in which it waited for approval; in it of each role and of the tools."""

    total: float | None = None
    planner: float = 0.0
    caller: float = 0.0
    summarizer: float = 0.0
    tools: float = 0.0


class RunView(BaseModel):
    """A run. `outcome` and `ended_at` are None while it goes on; `required_action` is what it waits for.

    `sources` tells by tool name which version of which toolset it is of; runs from before there were versions lack it.
    """

    run_id: str
    created_at: float
    query: str
    tools: list[str]
    sources: dict[str, ToolSource] = Field(default_factory=dict[str, ToolSource])
    max_steps: int
    deadline_seconds: float
    status: RunStatus = RunStatus.RUNNING
    required_action: RequiredAction | None = None
    outcome: Outcome | None = None
    answer: str | None = None
    problem: RunProblem | None = None
    steps: list[StepView] = Field(default_factory=list[StepView])
    usage: dict[Role, UsageTotal] = Field(default_factory=lambda: {role: UsageTotal() for role in Role})
    timings: Timings = Field(default_factory=Timings)
    summarizer_version: str | None = None
    ended_at: float | None = None

    @property
    def asked_a_person(self) -> bool:
        """Whether it waits for approval, or has."""
        return any(step.needs_approval for step in self.steps)

    def why_not(self, step: int) -> str:
        """Why nothing can be decided on the call of `step` now."""
        taken = self.steps[step - 1] if step <= len(self.steps) else None
        if taken is not None and taken.approval is not None:
            return f"step {step} was {'approved' if taken.approval.approve else 'refused'} already"
        if self.required_action is None:
            return f"the run has ended: {self.outcome}" if self.outcome else "the run does not wait for approval"
        if self.required_action.step == step:
            return f"it is too late: step {step} waited for approval too long"
        return f"the run waits with step {self.required_action.step}, not with step {step}"


def fold(events: Iterable[Event]) -> RunView:
    """The run that `events` tell of; the first must be `run.created`."""
    log = iter(events)
    first = next(log)
    created = first.data
    assert isinstance(created, RunCreated)
    view = RunView(run_id=first.run_id, created_at=first.at, **created.model_dump(exclude={"may_add", "traceparent"}))
    for event in log:
        match event.data:
            case Planned() as planned:
                _planned(view, planned)
            case Offered() as offered:
                view.tools += offered.tools
                view.sources |= offered.sources
            case Called() as called:
                _called(view, called)
            case Observed() as observed:
                step = view.steps[observed.step - 1]
                step.observation, step.tool_outcome = observed.observation, observed.outcome
                step.response_status, step.seconds.tool = observed.status, observed.seconds
                view.timings.tools += observed.seconds
            case RequiresAction() as asked:
                told, request = asked.model_dump(exclude={"request"}), SentRequest.of(asked.request)
                view.status, view.required_action = RunStatus.REQUIRES_ACTION, RequiredAction(**told, request=request)
                view.steps[asked.step - 1].needs_approval = True
            case Approval() as decided:
                view.status, view.required_action = RunStatus.RUNNING, None
                shown = ApprovalView(**decided.model_dump(exclude={"step"}), at=event.at)
                view.steps[decided.step - 1].approval = shown
            case Sending():
                pass
            case RunCompleted() as completed:
                _completed(view, completed)
                view.status, view.required_action, view.ended_at = RunStatus.ENDED, None, event.at
            case other:
                raise AssertionError(f"unexpected event {other}")
    return view


def _planned(view: RunView, event: Planned) -> None:
    view.steps.append(
        StepView(
            number=event.step,
            rationale=event.plan.rationale,
            turn=event.plan.turn,
            seconds=StepSeconds(plan=event.seconds),
            usage={Role.PLANNER: event.usage},
            versions={Role.PLANNER: event.version},
        )
    )
    view.usage[Role.PLANNER].add(event.usage)
    view.timings.planner += event.seconds


def _called(view: RunView, event: Called) -> None:
    step = view.steps[event.step - 1]
    step.call, step.toolset, step.seconds.call = event.call, event.toolset, event.seconds
    step.request = event.request and SentRequest.of(event.request)
    step.usage[Role.CALLER], step.versions[Role.CALLER] = event.usage, event.version
    view.usage[Role.CALLER].add(event.usage)
    view.timings.caller += event.seconds


def _completed(view: RunView, event: RunCompleted) -> None:
    view.outcome, view.answer, view.problem = event.outcome, event.answer, event.problem
    view.timings.total = event.seconds
    if event.usage is not None and event.version is not None:
        last = view.steps[-1]
        last.usage[Role.SUMMARIZER], last.versions[Role.SUMMARIZER] = event.usage, event.version
        view.usage[Role.SUMMARIZER].add(event.usage)
        view.timings.summarizer = event.summarize_seconds or 0.0
        view.summarizer_version = event.version
