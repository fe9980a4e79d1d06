"""What the routes work with, made once per app when it starts."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from gateway.accounts import Accounts
from gateway.egress.client import Egress
from gateway.egress.dispatch import Dispatcher
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.secrets import Secrets
from gateway.loop import Loop
from gateway.mcp.sessions import Sessions
from gateway.metrics import Metrics
from gateway.redaction import redacted
from gateway.roles import Roles
from gateway.runs import Runs
from gateway.settings import Settings
from gateway.store import Store
from gateway.tools.calls import Calls
from gateway.tools.embedder import Embedder
from gateway.tools.embeddings import Embeddings
from gateway.tools.toolsets import Registry
from gateway.transport import RoleClient
from gateway.turns import Turns
from gateway.webhooks.sending import Webhooks
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
    webhooks: Webhooks
    egress: Egress
    sessions: Sessions
    desk: Desk | None
    """The registry of weights, if this gateway has one."""


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncGenerator[Gateway]:
    """Open store and clients, load the toolsets; on leaving, stop all runs first."""
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        store = await stack.enter_async_context(Store(settings.database_url))
        secrets = Secrets(settings.secrets_directory)
        stack.enter_context(redacted(secrets))
        embeddings = None
        if endpoint := settings.embedding_endpoint:
            client = await stack.enter_async_context(RoleClient(settings.role_connections))
            made = Embeddings(Embedder(client, endpoint), metrics, endpoint.seconds)
            embeddings = await stack.enter_async_context(made)
        kept = Registry(store.toolsets, settings.max_toolsets, settings.tool_allow, secrets, embeddings)
        registry = await stack.enter_async_context(kept)
        role_client = await stack.enter_async_context(RoleClient(settings.role_connections))
        hosts = Hosts(settings.tool_concurrency, settings.tool_failures, settings.tool_rest_seconds)
        egress = await stack.enter_async_context(Egress(hosts, settings.role_connections))
        # Of their own: a receiver that is down must not keep tools at the same host from being called.
        receivers = Hosts(settings.tool_concurrency, settings.tool_failures, settings.tool_rest_seconds)
        post = await stack.enter_async_context(Egress(receivers, settings.role_connections))
        webhooks = Webhooks(store.webhooks, store.runs, post, metrics, settings.webhook_terms)
        await stack.enter_async_context(webhooks)
        roles = Roles(role_client, settings.role_urls, metrics, settings.role_patience_seconds, settings.shown_to_roles)
        limits = settings.tool_limits
        keyring = Keyring(egress, secrets, limits)
        listing, commands = settings.document_limits, settings.mcp_commands
        pool = Sessions(egress, keyring, hosts, secrets, limits, listing, commands, registry.relist)
        sessions = await stack.enter_async_context(pool)
        calls = Calls(Dispatcher(egress, keyring, limits), sessions)
        loop = Loop(roles, calls, metrics, settings.approval_seconds)
        turns = Turns(settings.max_running)
        runs = Runs(loop, store.runs, metrics, registry, turns, settings.lease_seconds, settings.drain_seconds)
        await stack.enter_async_context(runs)
        accounts = Accounts(store.keys)
        desk = Desk(open_registry(settings.registry)) if settings.registry else None
        yield Gateway(settings, metrics, store, accounts, registry, roles, runs, webhooks, egress, sessions, desk)


async def _current(request: Request) -> Gateway:  # what is not async would be called in a thread
    return cast(Gateway, request.app.state.gateway)


Current = Annotated[Gateway, Depends(_current)]
