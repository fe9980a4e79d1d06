"""Smoke cases for a role's checkpoint: unseen turns that its freshly trained model takes rightly.

A role service tries them whenever it loads the checkpoint, so a version that was damaged, or is prompted in another way
than it was trained, is noticed before any run gets it.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import TypeAdapter

from training.model import base_of
from training.records import Record
from umi.errors import RoleOutputInvalid
from umi.grammar import parse_plan
from umi.prompt import PromptTemplate
from umi.roles import Role
from umi.smoke import SmokeCase
from umi.trajectory import JsonObject, Trajectory

_MAX_TOKENS = 160
_CASES = TypeAdapter(tuple[SmokeCase, ...])


def first_turn(record: Record, role: Role) -> SmokeCase | None:
    """The role's first turn in a record, whose prompt is the shortest, and what a right reply holds; None without one.

    A summarizer's reply only has to be usable.
    """
    trajectory = _brief(record.trajectory)
    if role is Role.SUMMARIZER:
        return None if record.answer is None else SmokeCase(trajectory=trajectory, expected={})
    first, before = trajectory.steps[0], trajectory.model_copy(update={"steps": ()})
    if role is Role.PLANNER:
        return SmokeCase(trajectory=before, expected={"plan": {"turn": first.plan.turn.value}})
    if first.call is None:
        return None
    planned = before.append(first.model_copy(update={"call": None, "observation": None}))
    return SmokeCase(trajectory=planned, expected={"call": {"tool": first.call.tool}})


def _brief(trajectory: Trajectory) -> Trajectory:
    """With the tools that are called, or one: a swap takes about as long as its cases take to be read."""
    called = {step.call.tool for step in trajectory.steps if step.call}
    kept = called or {tool.name for tool in trajectory.tools[:1]}
    return trajectory.model_copy(update={"tools": tuple(tool for tool in trajectory.tools if tool.name in kept)})


def choose(model: Any, tokenizer: Any, role: Role, records: Sequence[Record], count: int = 2) -> tuple[SmokeCase, ...]:
    """The `count` shortest cases that the model passes, of which no two expect the same; fewer when it passes fewer.

    Short, since a swap waits until they are read. What planner and caller write must be readable as it is, since
    weights that hesitate there may write something else where sums are rounded otherwise. A summarizer may write
    anything.
    """
    base_of(model).set_attn_implementation("sdpa")  # there is no prefix tree to attend to
    template, found = PromptTemplate.default(), list[SmokeCase]()
    cases = [case for record in records if (case := first_turn(record, role))]
    prompts = [(template.render(role, case.trajectory), case) for case in cases]
    for prompt, case in sorted(prompts, key=lambda one: len(tokenizer.encode(one[0]))):
        if len(found) == count:
            break
        if case.expected and any(case.expected == other.expected for other in found):
            continue
        text, is_exact = _write(model, tokenizer, prompt)
        if case.passes(_reply(role, text)) and (is_exact or role is Role.SUMMARIZER):
            found.append(case.model_copy(update={"text": text if is_exact else None}))
    return tuple(found)


def text_of(cases: Sequence[SmokeCase]) -> bytes:
    """The content of `smoke.json`."""
    return _CASES.dump_json(tuple(cases), indent=1) + b"\n"


def _write(model: Any, tokenizer: Any, prompt: str) -> tuple[str, bool]:
    """What the model writes, and whether it came to an end, in the tokens that a reader of the text gets."""
    tokens = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # a few sentences are not worth compiling for
        written = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=_MAX_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    ids = [token for token in written[0, tokens.shape[1] :].tolist() if token not in tokenizer.all_special_ids]
    text = tokenizer.decode(ids)
    ended = written.shape[1] - tokens.shape[1] < _MAX_TOKENS
    return text, ended and tokenizer.encode(text, add_special_tokens=False) == ids


def _reply(role: Role, text: str) -> JsonObject:
    """The reply that a role service would make of a text, as far as it can be read."""
    try:
        if role is Role.PLANNER:
            return {"plan": parse_plan(text).model_dump(mode="json")}
        if role is Role.CALLER:
            return {"call": {"tool": json.loads(text)["name"]}}
    except (RoleOutputInvalid, ValueError, KeyError, TypeError):
        return {}
    return {"answer": text}
