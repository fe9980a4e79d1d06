"""What a run had done, read from its log."""

from gateway.events import Event, Offered, Payload, Planned, RunCreated
from gateway.past import past_of, tools_of
from umi.roles import Turn
from umi.trajectory import Plan, ToolSpec, Trajectory
from umi.wire import Usage

USAGE = Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1, seconds=0.1)


def log(*payloads: Payload) -> list[Event]:
    return [Event.of("run", number, payload) for number, payload in enumerate(payloads)]


def planned(step: int, turn: Turn) -> Planned:
    return Planned(step=step, plan=Plan(rationale="Because.", turn=turn), version="v1", usage=USAGE, seconds=0.1)


def test_a_run_that_was_offered_more_tools_goes_on_with_them_and_without_the_plan_that_missed_them() -> None:
    created = RunCreated(query="Q", tools=["a"], max_steps=8, deadline_seconds=9, may_add=True)
    events = log(created, planned(1, Turn.GIVE_UP), Offered(step=1, tools=["b"]))
    assert tools_of(events) == ["a", "b"]
    beginning = Trajectory(query="Q", tools=(ToolSpec(name="a"), ToolSpec(name="b")))
    past = past_of(beginning, events)
    assert (past.trajectory, past.step, past.plan, past.offers) == (beginning, 2, None, 1)
    events_again = [*events, *log(planned(2, Turn.GIVE_UP), Offered(step=2, tools=["b"], only=True))]
    assert tools_of(events_again) == ["a", "b"]
    looking = past_of(beginning, events_again)
    assert (looking.trajectory, looking.step, looking.looked_again, looking.only) == (beginning, 3, True, ("b",))
    again = past_of(beginning, [*events, *log(planned(2, Turn.CALLER))])
    assert again.plan == Plan(rationale="Because.", turn=Turn.CALLER)
    assert len(again.trajectory.steps) == 1
