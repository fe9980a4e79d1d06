"""Which requests are sent again, and after how long."""

from collections.abc import Mapping

from umi.patience import backoff, retry_after

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be sent again (RFC 9110, 9.2.2)."""
_LATER = frozenset({429, 502, 503, 504})


def asks_to_come_back(status: int) -> bool:
    """Whether a response with this status may be another one when asked again."""
    return status in _LATER


def pause(tried: int, headers: Mapping[str, str] | None = None) -> float:
    """Seconds to wait after the try number `tried` (from 1): what the host asks for, or twice as long each time."""
    return max(backoff(tried), retry_after(headers.get("retry-after", ""))) if headers else backoff(tried)
