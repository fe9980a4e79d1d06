"""Signatures after the Standard Webhooks specification (standardwebhooks.com), and the secrets for them.

A tenant's secret is derived from the gateway's key, the tenant's name and a number that rotating counts up. So the
database holds nothing that could be stolen from it, and every gateway with the same key signs alike.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable

from gateway.store.rows import SigningSecret

GRACE_SECONDS = 86_400.0
"""So long after a rotation both secrets sign: receivers take over the new one meanwhile."""


def derived(key: bytes, tenant: str, generation: int) -> bytes:
    """32 bytes: a tenant's secret of that number."""
    return hmac.new(key, f"umi webhook secret {generation} of {tenant}".encode(), hashlib.sha256).digest()


def shown(secret: bytes) -> str:
    """A secret as receivers are given it."""
    return "whsec_" + base64.b64encode(secret).decode()


def in_use(key: bytes, tenant: str, current: SigningSecret, now: float) -> list[bytes]:
    """The secrets that sign now, the newest first."""
    is_new = current.generation > 1 and now < current.rotated_at + GRACE_SECONDS
    numbers = (current.generation, current.generation - 1) if is_new else (current.generation,)
    return [derived(key, tenant, number) for number in numbers]


def headers(message_id: str, at: int, body: bytes, secrets: Iterable[bytes]) -> dict[str, str]:
    """What an attempt at `at` (seconds since the epoch) carries: one signature for each secret."""
    signed = f"{message_id}.{at}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join("v1," + base64.b64encode(digest).decode() for digest in digests),
    }
