"""No secret that the gateway has read reaches a log, in whatever a library or an error repeats of it."""

import logging
import traceback
from collections.abc import Generator
from contextlib import contextmanager

from gateway.egress.secrets import Secrets, cut


class _Cutting(logging.Filter):
    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, without the secrets."""
        known = self._secrets.known
        if known and record.name != "uvicorn.access":  # whose arguments are what a client has sent
            record.msg, record.args = self._cut(record.getMessage()), ()
            if record.exc_info:
                record.exc_text = self._cut("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return True

    def _cut(self, text: str) -> str:
        return cut(text.encode("utf-8", "replace"), self._secrets.known).decode("utf-8", "replace")


@contextmanager
def redacted(secrets: Secrets) -> Generator[None]:
    """Within, whatever this process logs is without the secrets that were read until then."""
    cutting, handlers = _Cutting(secrets), list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(cutting)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(cutting)
