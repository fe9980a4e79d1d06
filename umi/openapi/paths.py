"""Path templates: `/shelves/{shelf}/items`, now and then with a query of their own."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from umi.errors import CallRejected

_VARIABLE = re.compile(r"({[^{}]*})")
_LITERAL = "/:@!$&'()*+,;=~%-._"


def variables(path: str) -> list[str]:
    """The names in a template, in its order."""
    return list(dict.fromkeys(name[1:-1] for name in _VARIABLE.findall(path.partition("#")[0])))


def filled(path: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Path and query of a template with encoded values in it; a fragment, which is never sent, is dropped.

    The path begins with one slash, so that it cannot be read as a part of the host. Raises CallRejected for a missing
    value.
    """
    if missing := [name for name in variables(path) if name not in values]:
        raise CallRejected(f"the path needs a value for {missing[0]!r}")
    before, _, query = path.partition("#")[0].partition("?")
    return "/" + _filled(before, values).lstrip("/"), _filled(query, values)


def _filled(template: str, values: Mapping[str, str]) -> str:
    pieces = _VARIABLE.split(template)
    return "".join(values[piece[1:-1]] if _VARIABLE.fullmatch(piece) else quote(piece, _LITERAL) for piece in pieces)
