"""What outlives a gateway: runs and their events, toolsets, API keys. SQLite by default, PostgreSQL by URL.

    database.py    reading, and writing in commits that many share     tables.py      the tables
    runs.py        runs, their logs, leases and claims                 rows.py        rows as the others see them
    following.py   waiting for events that are not there yet           retention.py   forgetting old runs
    toolsets.py    toolsets, by version                                migrations/    how the tables came about
    keys.py        API keys and what they have used                    webhooks.py    what is to be told when runs end
    export.py      reading many runs

Whatever asks the database raises SQLAlchemyError when that fails.
"""

from typing import Self

from gateway.store.database import Database
from gateway.store.keys import Keys, digest
from gateway.store.rows import (
    LOCAL,
    Claim,
    Claimed,
    Delivery,
    DeliveryState,
    Due,
    Exceeded,
    Key,
    Lease,
    McpOptions,
    RunRow,
    Scope,
    Selection,
    Taken,
    ToolsetOptions,
    ToolsetRow,
    ToolsetVersion,
)
from gateway.store.runs import RunStore
from gateway.store.toolsets import ToolsetStore
from gateway.store.webhooks import WebhookStore

__all__ = [
    "LOCAL",
    "Claim",
    "Claimed",
    "Database",
    "Delivery",
    "DeliveryState",
    "Due",
    "Exceeded",
    "Key",
    "Keys",
    "Lease",
    "McpOptions",
    "RunRow",
    "RunStore",
    "Scope",
    "Selection",
    "Store",
    "Taken",
    "ToolsetOptions",
    "ToolsetRow",
    "ToolsetStore",
    "ToolsetVersion",
    "WebhookStore",
    "digest",
]


class Store:
    """Everything on one database. Use as an async context manager; entering brings the tables up to date."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.runs = RunStore(self.database)
        self.toolsets = ToolsetStore(self.database)
        self.keys = Keys(self.database)
        self.webhooks = WebhookStore(self.database)

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        await self.runs.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runs.__aexit__()
        await self.database.__aexit__()
