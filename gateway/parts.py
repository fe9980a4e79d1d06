"""What the routes work with, made once per app when it starts."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

import httpx
from fastapi import Depends, Request

from gateway.accounts import Accounts
from gateway.dispatch import Dispatcher
from gateway.egress.client import Egress
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.secrets import Secrets
from gateway.loop import Loop
from gateway.metrics import Metrics
from gateway.roles import Roles
from gateway.runs import Runs
from gateway.settings import Settings
from gateway.store import Store
from gateway.toolsets import Registry
from gateway.transport import create_client
from gateway.turns import Turns
from gateway.weights.desk import Desk
from remote import open_registry


@dataclass(frozen=True)
class Gateway:
    """Settings and parts of one running gateway. `egress` dials what users name; roles have a client of their own."""

    settings: Settings
    metrics: Metrics
    store: Store
    accounts: Accounts
    registry: Registry
    roles: Roles
    runs: Runs
    egress: Egress
    role_client: httpx.AsyncClient
    desk: Desk | None
    """The registry of weights, if this gateway has one."""


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncGenerator[Gateway]:
    """Open store and clients, load the toolsets; on leaving, stop all runs first."""
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        store = await stack.enter_async_context(Store(settings.database))
        secrets = Secrets(settings.secrets_directory)
        kept = Registry(store.toolsets, settings.max_toolsets, settings.tool_allow, secrets)
        registry = await stack.enter_async_context(kept)
        role_client = await stack.enter_async_context(create_client(settings.role_connections))
        hosts = Hosts(settings.tool_concurrency, settings.tool_failures, settings.tool_rest_seconds)
        egress = await stack.enter_async_context(Egress(hosts, settings.role_connections))
        roles = Roles(role_client, settings.role_urls, metrics, settings.role_connect_tries)
        dispatcher = Dispatcher(egress, Keyring(egress, secrets, settings.tool_limits), settings.tool_limits)
        loop = Loop(roles, dispatcher, metrics)
        turns = Turns(settings.max_running)
        runs = Runs(loop, store.runs, metrics, registry.fresh, turns, settings.lease_seconds, settings.drain_seconds)
        await stack.enter_async_context(runs)
        desk = Desk(open_registry(settings.registry)) if settings.registry else None
        yield Gateway(settings, metrics, store, Accounts(store.keys), registry, roles, runs, egress, role_client, desk)


def _current(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)


Current = Annotated[Gateway, Depends(_current)]
