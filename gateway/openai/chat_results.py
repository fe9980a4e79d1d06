"""A run that has ended as a chat completion."""

from gateway.events import Outcome
from gateway.openai.bodies import MODEL
from gateway.openai.endings import extension, text_of, tokens_of
from gateway.views import RunView
from umi.trajectory import JsonObject

BETWEEN_PLANS = "\n\n"


def completion_id(run_id: str) -> str:
    """The id of the run's completion."""
    return f"chatcmpl-{run_id}"


def finish_reason(view: RunView) -> str:
    """`length` when the run used up its steps, else `stop`; `umi.outcome` says it exactly."""
    return "length" if view.outcome is Outcome.MAX_STEPS else "stop"


def usage_of(view: RunView) -> JsonObject:
    """The sum over the three roles."""
    prompt, cached, written = tokens_of(view)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def completion_of(view: RunView, metadata: dict[str, str] | None) -> JsonObject:
    """The chat completion that a finished run is."""
    thought = BETWEEN_PLANS.join(step.rationale for step in view.steps)
    message = {"role": "assistant", "content": text_of(view), "refusal": None, "reasoning_content": thought or None}
    return {
        "id": completion_id(view.run_id),
        "object": "chat.completion",
        "created": int(view.created_at),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(view)}],
        "usage": usage_of(view),
        "metadata": metadata,
        "umi": extension(view),
    }
