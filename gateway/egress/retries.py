"""Which requests are sent again, and after how long."""

import random
import time
from email.utils import parsedate_to_datetime

import httpx

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be sent again (RFC 9110, 9.2.2)."""
SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""
_LATER = frozenset({429, 502, 503, 504})
_FIRST, _LONGEST = 0.2, 5.0


def asks_to_come_back(status: int) -> bool:
    """Whether a response with this status may be another one when asked again."""
    return status in _LATER


def pause(tried: int, headers: httpx.Headers | None = None) -> float:
    """Seconds to wait after the try number `tried` (from 1): what the host asks for, or twice as long each time."""
    backoff = min(_LONGEST, _FIRST * 2 ** (tried - 1)) * random.uniform(0.75, 1.25)
    return max(backoff, retry_after(headers.get("retry-after", ""))) if headers else backoff


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3); 0 for one that cannot be read."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
