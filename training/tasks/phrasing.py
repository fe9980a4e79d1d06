"""Surface forms: template expansion, and the noise of real messages."""

import random
import re
from collections.abc import Iterator

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_OPENINGS = (
    "Hi, ", "Hello! ", "Hey, ", "Quick question: ", "One thing: ", "Good morning. ", "Help me out: ", "So, ", "OK so ",
    "Question for you - ", "Hi there! ", "Just curious: ", "Sorry to bother you, ", "Me again. ", "Dear assistant, ",
    "For my homework: ", "We have a bet going. ", "Before I forget: ",
)  # fmt: skip
_CLOSINGS = (
    " Thanks!", " Thank you.", " thx", " Cheers!", " Please be brief.", " I need it for a report.",
    " Much appreciated.", " Any idea?", " Can you check?", " TIA", " It's for a quiz.", " Please look it up.",
)  # fmt: skip


def expand(template: str, rng: random.Random) -> str:
    """Choose one alternative of every `[a|b|c]`, innermost first."""
    while match := _CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match[1].split("|")) + template[match.end() :]
    return " ".join(template.split())


def expansions(template: str) -> Iterator[str]:
    """Every text that `expand` can make of a template."""
    match = _CHOICE.search(template)
    if not match:
        yield " ".join(template.split())
        return
    for choice in match[1].split("|"):
        yield from expansions(template[: match.start()] + choice + template[match.end() :])


def fill(template: str, surfaces: dict[str, str], rng: random.Random) -> str:
    """A question: the template expanded, sometimes with a typo in its own words, and its slots filled."""
    text = expand(template, rng)
    if rng.random() < 0.07:
        text = _typo(text, rng)
    for slot, surface in surfaces.items():
        text = text.replace("{" + slot + "}", surface)
    text = text.replace("the the ", "the ")
    return text[:1].upper() + text[1:] if rng.random() < 0.8 else text


def decorate(question: str, rng: random.Random) -> str:
    """Now and then a greeting before the question or thanks behind it."""
    if rng.random() < 0.15:
        opening = rng.choice(_OPENINGS)
        question = opening + (question[:1].lower() + question[1:] if opening[-2] in ",:" else question)
    if rng.random() < 0.12:
        question = question.rstrip() + rng.choice(_CLOSINGS)
    return question


def _typo(text: str, rng: random.Random) -> str:
    """One slip of the finger in a long word of the template itself, never inside a slot."""
    words = [m for m in re.finditer(r"(?<![{\w])[a-z]{5,}(?![}\w])", text)]
    if not words:
        return text
    word = rng.choice(words)
    return text[: word.start()] + misspell(word[0], rng) + text[word.end() :]


def misspell(word: str, rng: random.Random) -> str:
    """Swap, drop or double one inner letter."""
    at = rng.randrange(1, len(word) - 2)
    match rng.randrange(3):
        case 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case 1:
            return word[:at] + word[at + 1 :]
        case _:
            return word[:at] + word[at] + word[at:]
