"""From references to what a request carries: headers, query parameters and cookies that say who is asking."""

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

from gateway.egress.client import Credentials, Egress, Limits, Outgoing
from gateway.egress.permission import Permission
from gateway.egress.secrets import Secrets
from umi.errors import CallRejected, NoResponse
from umi.openapi import Place
from umi.openapi.security import Kind, Scheme

_EARLY, _SHORT_LIVED = 30.0, 300.0


@dataclass(frozen=True)
class Key:
    """A scheme of a document and the reference of the secret for it."""

    scheme: Scheme
    reference: str
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What a request carries, and every text in it that nobody else may read."""

    credentials: Credentials = field(default_factory=Credentials)
    secrets: tuple[str, ...] = ()


class Keyring:
    """Opens keys; tokens are kept in memory until shortly before they end."""

    def __init__(self, egress: Egress, secrets: Secrets, limits: Limits = Limits()) -> None:
        self._egress, self._secrets, self._limits = egress, secrets, limits
        self._tokens: dict[Key, tuple[str, float]] = {}
        self._asking: dict[Key, asyncio.Lock] = {}

    async def open(self, keys: Sequence[Key], permission: Permission) -> Opened:
        """Raises BadInput for a secret that cannot be read, CallRejected when there is no token to be had."""
        headers: dict[str, str] = {}
        query: dict[str, str] = {}
        cookies: dict[str, str] = {}
        secrets: list[str] = []
        for key in keys:
            secret = await asyncio.to_thread(self._secrets.read, key.reference)
            secrets += [secret, *(secret.split(":", 1) if ":" in secret else ())]
            match key.scheme:
                case Scheme(kind=Kind.API_KEY, place=Place.QUERY, name=name):
                    query[name] = secret
                case Scheme(kind=Kind.API_KEY, place=Place.COOKIE, name=name):
                    cookies[name] = quote_plus(secret)
                case Scheme(kind=Kind.API_KEY, name=name):
                    headers[name.lower()] = secret
                case Scheme(kind=Kind.BASIC):
                    headers["authorization"] = _basic(secret)
                case Scheme(kind=Kind.BEARER):
                    headers["authorization"] = f"Bearer {secret}"
                case _:
                    token = await self._token(key, secret, permission)
                    secrets.append(token)
                    headers["authorization"] = f"Bearer {token}"
        return Opened(Credentials(headers, query, cookies), tuple(secrets))

    def forget_tokens(self, keys: Sequence[Key]) -> bool:
        """After a 401: whether there was a token that could have been too old."""
        return any([self._tokens.pop(key, None) is not None for key in keys])

    async def _token(self, key: Key, secret: str, permission: Permission) -> str:
        if (known := self._known(key)) is not None:  # not behind those who still queue for the lock
            return known
        async with self._asking.setdefault(key, asyncio.Lock()):
            if (known := self._known(key)) is not None:
                return known
            token, seconds = await self._ask(key, secret, permission)
            self._secrets.remember(token)
            self._tokens[key] = token, time.monotonic() + seconds - _EARLY
            return token

    def _known(self, key: Key) -> str | None:
        token, until = self._tokens.get(key, ("", 0.0))
        return token if time.monotonic() < until else None

    async def _ask(self, key: Key, secret: str, permission: Permission) -> tuple[str, float]:
        """A new token (RFC 6749, 4.4) and the seconds that it lives."""
        form = {"grant_type": "client_credentials", **({"scope": " ".join(key.scopes)} if key.scopes else {})}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        credentials = Credentials({"authorization": _basic(":".join(map(quote_plus, secret.split(":", 1))))})
        outgoing = Outgoing("POST", key.scheme.token_url, headers, urlencode(form).encode(), credentials)
        try:
            answer = await self._egress.send(outgoing, permission, self._limits)
            if answer.status != 200:
                raise CallRejected(f"its token service answered {answer.status}")
            data: Any = json.loads(answer.body)
            token, seconds = str(data["access_token"]), float(data.get("expires_in") or _SHORT_LIVED)
        except NoResponse as error:
            raise CallRejected(f"its token service {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CallRejected("its token service gave no token") from error
        if not (token.isascii() and token.isprintable() and token):
            raise CallRejected("its token service gave no token")
        return token, seconds


def _basic(user_and_password: str) -> str:
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()
