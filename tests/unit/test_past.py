"""What a run had done, read from its log."""

from gateway.events import (
    Approval,
    Called,
    Event,
    Observed,
    Offered,
    Payload,
    Planned,
    RequiresAction,
    RunCreated,
    Sending,
    ToolOutcome,
    ToolSource,
)
from gateway.past import past_of, seconds_of_work, tools_of
from umi.openapi import HttpRequest
from umi.roles import Turn
from umi.trajectory import Call, Plan, ToolSpec, Trajectory
from umi.wire import Usage

USAGE = Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1, seconds=0.1)


def log(*payloads: Payload) -> list[Event]:
    return [Event.of("run", number, payload) for number, payload in enumerate(payloads)]


def planned(step: int, turn: Turn) -> Planned:
    return Planned(step=step, plan=Plan(rationale="Because.", turn=turn), version="v1", usage=USAGE, seconds=0.1)


def test_a_run_that_was_offered_more_tools_goes_on_with_them_and_without_the_plan_that_missed_them() -> None:
    created = RunCreated(query="Q", tools=["a"], max_steps=8, deadline_seconds=9, may_add=True)
    events = log(
        created,
        planned(1, Turn.GIVE_UP),
        Offered(step=1, tools=["b"], sources={"b": ToolSource(toolset="t", version=2)}),
    )
    assert tools_of(events) == {"a": None, "b": ToolSource(toolset="t", version=2)}
    beginning = Trajectory(query="Q", tools=(ToolSpec(name="a"), ToolSpec(name="b")))
    past = past_of(beginning, events)
    assert (past.trajectory, past.step, past.plan, past.offers) == (beginning, 2, None, 1)
    again = past_of(beginning, [*events, *log(planned(2, Turn.CALLER))])
    assert again.plan == Plan(rationale="Because.", turn=Turn.CALLER)
    assert len(again.trajectory.steps) == 1


def called(step: int) -> Called:
    request = HttpRequest(method="POST", url="https://notes.example", headers={})
    return Called(
        step=step, call=Call(tool="a"), version="v1", usage=USAGE, seconds=0.1, request=request, needs_approval=True
    )


def test_a_run_goes_on_from_where_a_person_decided_and_the_next_step_is_open_again() -> None:
    created = RunCreated(query="Q", tools=["a"], max_steps=8, deadline_seconds=9)
    yes = Approval(step=1, approve=True)
    before = [created, planned(1, Turn.CALLER), called(1)]
    beginning = Trajectory(query="Q", tools=(ToolSpec(name="a"),))
    decided = past_of(beginning, log(*before, yes))
    assert (decided.called, decided.approval, decided.was_sending) == (called(1), yes, False)
    sending = past_of(beginning, log(*before, yes, Sending(step=1)))
    assert sending.was_sending
    done = log(*before, yes, Sending(step=1), Observed(step=1, observation="Kept.", outcome=ToolOutcome.OK))
    after = past_of(beginning, done)
    assert (after.step, after.called, after.approval, after.was_sending) == (2, None, None, False)


def test_waiting_for_a_person_is_not_work() -> None:
    request = HttpRequest(method="POST", url="https://notes.example", headers={})
    asks = RequiresAction(step=1, call=Call(tool="a"), toolset="t", request=request, expires_at=0)
    yes = Approval(step=1, approve=True)
    payloads = [RunCreated(query="Q", tools=[], max_steps=8, deadline_seconds=9), asks, yes, Sending(step=1), asks]
    times = [100.0, 103.0, 203.0, 204.0, 206.0]
    events = [event.model_copy(update={"at": at}) for event, at in zip(log(*payloads), times, strict=True)]
    assert seconds_of_work(events[:1], 102.0) == 2.0
    assert seconds_of_work(events[:2], 500.0) == 3.0
    assert seconds_of_work(events[:3], 205.0) == 5.0
    assert seconds_of_work(events, 900.0) == 6.0
