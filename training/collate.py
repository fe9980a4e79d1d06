"""From records to the tokens that are trained on, and what of them had to be cut to fit the context."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from training.instances import Instance
from training.lessons import Lesson
from training.packing import PrefixTree
from training.records import Record
from umi.context import Fitted, fit, shortened
from umi.errors import BadInput, ContextOverflow
from umi.trajectory import Trajectory

Batch = dict[str, Any]


class Tokens(NamedTuple):
    """One instance as token ids; `dropped` is how many of its oldest steps had to go."""

    prompt: list[int]
    target: list[int]
    cut: Fitted | None = None
    """What was left out of the history to fit it in; None for a whole instance."""


class TreeCollator:
    """Records to one prefix tree in which the instances of a lesson are learnt.

    By the rules of serving (`umi.context`) every observation is compressed to `observation_tokens`, and the history of
    an instance longer than `max_tokens` is shortened, never its target. It is left out when even tools, query, newest
    step and target are too long.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        lesson: Lesson,
        max_tokens: int = 4096,
        observation_tokens: int | None = None,
    ) -> None:
        self.lesson, self.max_tokens, self.observation_tokens = lesson, max_tokens, observation_tokens
        self._tokenizer = tokenizer

    def tree(self, records: Sequence[Record]) -> PrefixTree:
        """The tree of neighbouring records."""
        tree = PrefixTree()
        for record in records:
            for instance in self.lesson.instances(self.compressed(record)):
                if (tokens := self.tokens(instance)) is not None:
                    tree.add(tokens.prompt, tokens.target)
        return tree

    def compressed(self, record: Record) -> Record:
        """The record as it is learnt and served: every observation within its budget."""
        return record.compressed(lambda text: len(self._ids(text)), self.observation_tokens)

    def tokens(self, instance: Instance) -> Tokens | None:
        """The tokens of an instance within the context; None when it is left out.

        Raises ContextOverflow when the target alone is too long.
        """
        prompt, target = self._ids(instance.prompt), [*self._ids(instance.target), self._tokenizer.eos_token_id]
        room, cut = self.max_tokens - len(target), None
        if room <= 0:
            raise ContextOverflow(f"the target alone has {len(target)} tokens, the context {self.max_tokens}")
        if len(prompt) > room:
            try:
                cut = fit(instance.before, lambda kept: len(self._prompt(instance, kept)), room)
            except ContextOverflow:
                return None
            prompt = self._prompt(instance, cut.trajectory)
        return Tokens(prompt, target, cut)

    def _prompt(self, instance: Instance, trajectory: Trajectory) -> list[int]:
        return self._ids(self.lesson.template.render(instance.role, trajectory))

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, groups: Sequence[Sequence[Record]]) -> Batch:
        (group,) = groups
        return self.tree(group).tensors()


@dataclass
class Survey:
    """How the instances of a stage fit its context: `whole`, `shortened` by `shortened_observations` and
    `dropped_steps` in all, or `left_out`; before that, `compressed_observations` of the records had to fit theirs."""

    counts: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        names = "whole shortened left_out shortened_observations dropped_steps compressed_observations".split()
        return ", ".join(f"{self.counts[name]} {name.replace('_', ' ')}" for name in names)


def survey(records: Sequence[Record], collate: TreeCollator) -> Survey:
    """Look at every instance before anything is trained.

    Raises BadInput naming a record whose target is longer than the context, and when nothing is left to learn.
    """
    found = Survey()
    for record in records:
        compressed = collate.compressed(record)
        found.counts["compressed_observations"] += shortened(record.trajectory, compressed.trajectory)
        for instance in collate.lesson.instances(compressed):
            if len((instance.prompt + instance.target).encode()) < collate.max_tokens:
                found.counts["whole"] += 1  # no token is shorter than a byte
                continue
            try:
                tokens = collate.tokens(instance)
            except ContextOverflow as error:
                raise BadInput(
                    f"{record.id}, {instance.role} after {len(instance.before.steps)} steps: {error}: "
                    "leave the record out, or raise max_tokens (--set max_tokens=…)"
                ) from error
            if tokens is None:
                found.counts["left_out"] += 1
            elif (cut := tokens.cut) is None:
                found.counts["whole"] += 1
            else:
                found.counts["shortened"] += 1
                found.counts["shortened_observations"] += cut.shortened
                found.counts["dropped_steps"] += cut.dropped
    if not found.counts["whole"] + found.counts["shortened"]:
        raise BadInput(f"there is nothing to learn for {', '.join(collate.lesson.roles)} in {len(records)} records")
    return found
