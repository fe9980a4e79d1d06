"""What the API shows of a run, folded from its events: the log is the only source."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from gateway.events import Called, Event, Observed, Offered, Outcome, Planned, RunCompleted, RunCreated, ToolOutcome
from gateway.problems import RunProblem
from umi.roles import Role, Turn
from umi.trajectory import Call
from umi.wire import Usage


class SentRequest(BaseModel):
    """The request of a tool call as it was sent; a body that is not JSON is text."""

    method: str
    url: str
    body: Any = None


class StepSeconds(BaseModel):
    """Where a step's time went, as seen from the gateway."""

    plan: float
    call: float | None = None
    tool: float | None = None


class StepView(BaseModel):
    """One step. `usage` and `versions` are per role: what its turn cost and the weights that took it."""

    number: int
    rationale: str
    turn: Turn
    call: Call | None = None
    toolset: str | None = None
    request: SentRequest | None = None
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
    """Seconds of the whole run, and in it of each role and of the tools."""

    total: float | None = None
    planner: float = 0.0
    caller: float = 0.0
    summarizer: float = 0.0
    tools: float = 0.0


class RunView(BaseModel):
    """A run. `outcome` is None while it goes on."""

    run_id: str
    created_at: float
    query: str
    tools: list[str]
    max_steps: int
    deadline_seconds: float
    outcome: Outcome | None = None
    answer: str | None = None
    problem: RunProblem | None = None
    steps: list[StepView] = Field(default_factory=list[StepView])
    usage: dict[Role, UsageTotal] = Field(default_factory=lambda: {role: UsageTotal() for role in Role})
    timings: Timings = Field(default_factory=Timings)
    summarizer_version: str | None = None


def fold(events: Iterable[Event]) -> RunView:
    """The run that `events` tell of; the first must be `run.created`."""
    log = iter(events)
    first = next(log)
    created = first.payload
    assert isinstance(created, RunCreated)
    view = RunView(run_id=first.run_id, created_at=first.at, **created.model_dump(exclude={"may_add", "traceparent"}))
    for event in log:
        match event.payload:
            case Planned() as planned:
                _planned(view, planned)
            case Offered() as offered:
                view.tools += offered.tools
            case Called() as called:
                _called(view, called)
            case Observed() as observed:
                step = view.steps[observed.step - 1]
                step.observation, step.tool_outcome = observed.observation, observed.outcome
                step.response_status, step.seconds.tool = observed.status, observed.seconds
                view.timings.tools += observed.seconds
            case RunCompleted() as completed:
                _completed(view, completed)
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
    if sent := event.request:
        body = sent.json_body if sent.text_body is None else sent.text_body
        step.request = SentRequest(method=sent.method, url=sent.url, body=body)
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
