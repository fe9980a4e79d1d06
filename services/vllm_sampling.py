"""What vLLM is asked to write: how tokens are picked, and what the text may look like."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from services.engine import Constraint, Sampling

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams


def parameters(constraint: Constraint | None, sampling: Sampling, stop: int, is_heard: bool) -> "SamplingParams":
    """Up to the token `stop`; with `is_heard`, the text so far is told after every token."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        seed=sampling.seed if sampling.temperature > 0 else None,
        max_tokens=sampling.max_tokens,
        stop_token_ids=[stop],
        structured_outputs=_structured(constraint),
        output_kind=RequestOutputKind.CUMULATIVE if is_heard else RequestOutputKind.FINAL_ONLY,
    )


def endless(tokens: int) -> "SamplingParams":
    """So many tokens, whatever they are."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=tokens,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _structured(constraint: Constraint | None) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if constraint is None:
        return None
    if constraint.kind == "regex":
        return StructuredOutputsParams(regex=constraint.source)
    grammar = json_grammar(constraint.source)
    return None if grammar is None else StructuredOutputsParams(grammar=grammar)


@lru_cache(maxsize=256)
def json_grammar(schema: str) -> str | None:
    """A grammar for one line of JSON as `json.dumps` writes it; None when xgrammar cannot express the schema.

    vLLM's own JSON mode knows either free whitespace or none at all, and xgrammar lets a string of limited length hold
    raw control characters but no escape: both would keep the model from text that it was trained to write.
    """
    import xgrammar

    try:
        grammar = xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, separators=(", ", ": "))
    except RuntimeError:
        return None
    return re.sub(
        r'_characters ::= \(\(\[\^\\"\\\\\\r\\n\]\)\)',
        lambda found: r'_characters ::= (([^\0-\x1f\"\\\r\n]) | ("\\" basic_escape))',
        str(grammar),
    )
