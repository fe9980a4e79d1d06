"""Documents that a toolset's document refers to: fetched once, when it is registered, and kept beside it."""

from collections.abc import Mapping

from gateway.egress.client import Egress, Limits
from gateway.egress.permission import Permission
from gateway.tools.fetch import fetch_plain
from umi.errors import BadDocument, Unreachable
from umi.openapi import MAX_DOCUMENTS, Resolver, outside
from umi.trajectory import JsonObject

Fetched = dict[str, JsonObject | str]
"""Documents by URL; a text says why there is none."""


async def fetch_references(
    egress: Egress, document: JsonObject, url: str | None, permission: Permission, limits: Limits
) -> Fetched:
    """What `document`, which lies at `url`, refers to, and what that refers to in turn.

    Only hosts that `permission` admits are asked. What cannot be had is no error: the operations that need it are
    refused with the reason when the document is read.
    """
    found: Fetched = {}
    waiting = list(outside(document, url))
    while waiting:
        wanted = waiting.pop(0)
        if wanted in found or wanted == url:
            continue
        if len(found) == MAX_DOCUMENTS:
            found[wanted] = f"the document refers to more than {MAX_DOCUMENTS} others"
            continue
        try:
            found[wanted] = other = await fetch_plain(egress, wanted, permission, limits)
        except (Unreachable, BadDocument) as error:
            found[wanted] = str(error)
        else:
            waiting += outside(other, wanted)
    return found


def resolver(fetched: Mapping[str, JsonObject | str]) -> Resolver:
    """Looks documents up among those that were fetched."""

    def resolve(url: str) -> JsonObject:
        document = fetched.get(url, "it was not fetched when the toolset was registered")
        if isinstance(document, str):
            raise Unreachable(document)
        return document

    return resolve
