"""The words of questions: templates divided into splits, and for training also phrases set into frames.

Every `[a|b]` in them is a choice and every `{slot}` an entity. From few templates an intent a small model learns
sentences by heart; phrases times frames are thousands of ways to ask for the same thing.
"""

import random
import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from training.tasks.entities import Split
from training.tasks.phrasing import expand, expansions

_FRAMED = "{it}"


@cache
def wordings(intent: str, split: Split) -> tuple[str, ...]:
    """The question templates of an intent that belong to a split: of every seven, one is dev's and two are test's."""
    part = {5: Split.DEV, 2: Split.TEST, 6: Split.TEST}
    return tuple(t for i, t in enumerate(_templates()[intent]) if part.get(i % 7, Split.TRAIN) is split)


@cache
def nouns() -> dict[str, dict[str, list[str]]]:
    """Noun phrases by intent, for training (`train`) and for the splits that judge (`unseen`)."""
    return _load("nouns")


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """For training: what an intent asks for, by the kind of frame it fits into."""
    return _load("phrases")


@cache
def frames() -> dict[str, list[str]]:
    """For training: questions around a phrase, by kind."""
    return _load("frames")


def framed(intent: str, rng: random.Random) -> str:
    """A question of an intent made of a phrase and a frame, never one that the splits that judge may ask."""
    kinds = phrases()[intent]
    while True:
        kind = rng.choice([kind for kind, all_of_it in kinds.items() for _ in all_of_it])
        frame = expand(rng.choice(frames()[kind]), rng)
        question = frame.replace(_FRAMED, expand(rng.choice(kinds[kind]), rng))
        if _bare(question) not in _unseen(intent):
            return question


@cache
def _unseen(intent: str) -> frozenset[str]:
    judging = (*wordings(intent, Split.DEV), *wordings(intent, Split.TEST))
    return frozenset(_bare(text) for template in judging for text in expansions(template))


def _bare(question: str) -> str:
    """Without case, marks and spaces at the ends: two questions that differ in these alone are the same wording."""
    return " ".join(re.findall(r"[\w{}']+", question.lower()))


@cache
def _templates() -> dict[str, list[str]]:
    return _load("geography") | _load("everyday")


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text("utf-8"))
