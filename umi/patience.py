"""How long to wait before a request is sent again."""

import random
import time
from email.utils import parsedate_to_datetime

_FIRST, _LONGEST = 0.2, 5.0


def backoff(tried: int) -> float:
    """Seconds to wait after the try number `tried` (from 1): twice as long each time, never two clients in step."""
    return min(_LONGEST, _FIRST * 2 ** min(tried - 1, 10)) * random.uniform(0.75, 1.25)


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3); 0 for one that cannot be read."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
