"""What both APIs say of a run that has ended, or waits for approval."""

import json

from gateway.events import Outcome
from gateway.views import RunView
from umi.trajectory import JsonObject


def text_of(view: RunView) -> str:
    """The answer, or a plain statement that there is none (yet) and why."""
    if asked := view.required_action:
        call = f"{asked.call.tool}({json.dumps(asked.call.arguments, ensure_ascii=False)})"
        how = f'POST /v1/runs/{view.run_id}/approve with {{"approve": true, "step": {asked.step}}}'
        return f"No answer yet: the call {call} needs approval. To approve it, {how}."
    match view.outcome:
        case Outcome.GAVE_UP:
            return f"No answer: the planner gave up. {view.steps[-1].rationale}".rstrip()
        case Outcome.MAX_STEPS:
            return f"No answer: the run took all of its {view.max_steps} steps without coming to a conclusion."
        case Outcome.DEADLINE:
            return f"No answer: the run did not end within its {view.deadline_seconds:g} seconds."
        case Outcome.EXPIRED:
            return "No answer: a call needed approval and nobody decided in time."
        case _:
            return view.answer or ""


def extension(view: RunView) -> JsonObject:
    """The field `umi`: of what `GET /v1/runs/{id}` shows, what OpenAI's shapes have no place for."""
    return view.model_dump(mode="json", include={"run_id", "status", "required_action", "outcome", "steps"})


def tokens_of(view: RunView) -> tuple[int, int, int]:
    """Tokens of all three roles together: prompts, how many of them came from the prefix cache, completions."""
    totals = view.usage.values()
    return (
        sum(total.prompt_tokens for total in totals),
        sum(total.cached_tokens for total in totals),
        sum(total.completion_tokens for total in totals),
    )
