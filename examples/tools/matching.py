"""Finding things by name, forgiving case, accents, punctuation and spacing, and suggesting near misses."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self, TypeVar

from fastapi import HTTPException

T = TypeVar("T")

# Letters that Unicode does not decompose into a base letter and an accent.
_PLAIN_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_APOSTROPHES = re.compile(r"['’‘ʻʼ`.]")
_SEPARATORS = re.compile(r"[\W_]+")


def normalize(name: str) -> str:
    """A name reduced to what people agree on: 'São  Tomé' and 'sao tome' become the same."""
    plain = name.casefold()
    if not plain.isascii():
        decomposed = unicodedata.normalize("NFKD", plain.translate(_PLAIN_LETTERS))
        plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    plain = _SEPARATORS.sub(" ", _APOSTROPHES.sub("", plain)).strip()
    return plain.removeprefix("the ")


def close_names(name: str, candidates: Iterable[str], limit: int = 1, cutoff: float = 0.7) -> list[str]:
    """The candidates spelled most like the name, closest first."""
    spelled = {normalize(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(normalize(name), list(spelled), n=limit, cutoff=cutoff)
    return [spelled[match] for match in matches]


def unknown_name(kind: str, name: str, suggestion: str | None) -> HTTPException:
    """The 404 for a name that nothing has, with a suggestion when there is one."""
    hint = f" Did you mean '{suggestion}'?" if suggestion else ""
    return HTTPException(status_code=404, detail=f"No {kind} named '{name.strip()}'.{hint}")


def look_up(kind: str, name: str, index: Mapping[str, T], display_names: Iterable[str]) -> T:
    """The value that a normalized index holds for a name, or the 404 that says so."""
    found = index.get(normalize(name))
    if found is None:
        suggestions = close_names(name, display_names)
        raise unknown_name(kind, name, suggestions[0] if suggestions else None)
    return found


class ForgivingEnum(StrEnum):
    """An enum of names that accepts any case and spacing."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        wanted = normalize(str(value))
        return next((member for member in cls if normalize(member.value) == wanted), None)
