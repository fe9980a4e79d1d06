"""What both APIs say of a run that has ended."""

from gateway.events import Outcome
from gateway.views import RunView
from umi.trajectory import JsonObject


def text_of(view: RunView) -> str:
    """The answer, or a plain statement that there is none and why."""
    match view.outcome:
        case Outcome.GAVE_UP:
            return f"No answer: the planner gave up. {view.steps[-1].rationale}".rstrip()
        case Outcome.MAX_STEPS:
            return f"No answer: the run took all of its {view.max_steps} steps without coming to a conclusion."
        case Outcome.DEADLINE:
            return f"No answer: the run did not end within its {view.deadline_seconds:g} seconds."
        case _:
            return view.answer or ""


def extension(view: RunView) -> JsonObject:
    """The field `umi`: the run's id, its outcome, and its steps as `GET /v1/runs/{id}` shows them."""
    return view.model_dump(mode="json", include={"run_id", "outcome", "steps"})


def tokens_of(view: RunView) -> tuple[int, int, int]:
    """Tokens of all three roles together: prompts, how many of them came from the prefix cache, completions."""
    totals = view.usage.values()
    return (
        sum(total.prompt_tokens for total in totals),
        sum(total.cached_tokens for total in totals),
        sum(total.completion_tokens for total in totals),
    )
