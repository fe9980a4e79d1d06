"""Secrets by reference: a registration names an environment variable or a file, within what is set aside for that."""

import base64
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

from umi.errors import BadInput
from umi.logs import CUT

PREFIX = "UMI_SECRET_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_BYTES, _SHORTEST, _MOST = 16_384, 4, 1000


class Secrets:
    """Reads `env:UMI_SECRET_…` and `file:NAME`, a file of `directory`; nothing else of the machine can be named."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._known: OrderedDict[str, None] = OrderedDict()

    @property
    def known(self) -> tuple[str, ...]:
        """What was read lately, and remembered."""
        return tuple(self._known)

    def remember(self, *secrets: str) -> None:
        """That these are secrets, too, of which nothing may be seen in a log."""
        for secret in secrets:
            self._known[secret] = None
            self._known.move_to_end(secret)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    def read(self, reference: str) -> str:
        """The secret, read anew each time, so that it can be changed. Raises BadInput, which never holds its value."""
        kind, _, name = reference.partition(":")
        match kind:
            case "env" if name.startswith(PREFIX) and _NAME.fullmatch(name):
                text = os.environ.get(name)
            case "file" if _NAME.fullmatch(name):
                text = self._file(name)
            case _:
                raise BadInput(f"a secret is named as env:{PREFIX}NAME or file:NAME", "secrets")
        if not text:
            raise BadInput(f"the secret {reference} is not set", "secrets")
        if not re.fullmatch(r"[\x20-\x7e]+", text):
            raise BadInput(f"the secret {reference} has characters that a header cannot carry", "secrets")
        if len(text) < _SHORTEST:
            raise BadInput(f"the secret {reference} is too short to be cut from what tools answer", "secrets")
        self.remember(text, *(text.split(":", 1) if ":" in text else ()))
        return text

    def _file(self, name: str) -> str | None:
        if self._directory is None:
            raise BadInput("secrets cannot be files here: UMI_SECRETS_DIRECTORY is not set", "secrets")
        home = self._directory.resolve()
        path = (home / name).resolve()  # a mounted secret is a link, but one that stays inside
        if not path.is_relative_to(home) or not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace").strip("\r\n")


def cut(text: bytes, secrets: Iterable[str]) -> bytes:
    """`text` without the secrets, as they are and as URLs, JSON and basic authentication write them."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) < _SHORTEST:
            continue
        encoded = base64.b64encode(secret.encode()).decode()
        for form in {secret, quote(secret, ""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], encoded}:
            text = text.replace(form.encode(), CUT.encode())
    return text
