"""Whether the gateway lives, whether it can serve, and what it has counted."""

import asyncio
import contextlib
import logging

import sqlalchemy as sa
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from gateway import accounts
from gateway.accounts import Admin
from gateway.described import TEXT
from gateway.parts import Current, Gateway
from gateway.store.database import first_line
from umi.roles import Role

_log = logging.getLogger("umi.gateway")
_PATIENCE = 2.0
router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """200 while the process serves."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A role is not ready"}})
async def ready(gateway: Current) -> Response:
    """200 when every role is ready and the database answers, else 503; says of each what is wrong."""
    asked = (_database(gateway), *(gateway.roles.is_ready(role) for role in Role))
    database, *reasons = await asyncio.gather(*asked)
    roles = {role.value: reason or "ok" for role, reason in zip(Role, reasons, strict=True)}
    is_ready = not database and not any(reasons)
    status = "ok" if is_ready else "not ready"
    return JSONResponse({"status": status, "roles": roles, "database": database or "ok"}, 200 if is_ready else 503)


async def _database(gateway: Gateway) -> str | None:
    """None, or why nothing can be stored now; not in the database's own words, which anybody could read here."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await gateway.store.database.read(lambda connection: connection.execute(sa.select(1)).scalar())
    except TimeoutError:
        return f"no answer within {_PATIENCE:g} s"
    except SQLAlchemyError as error:
        _log.warning("the database cannot be used: %s", first_line(error))
        return "cannot be used; the gateway's log says why"
    return None


@router.get("/metrics", response_class=Response, responses={**accounts.PROBLEMS, **TEXT})
async def metrics(gateway: Current, _: Admin) -> Response:
    """Prometheus' text format; once there are keys, for admins."""
    with contextlib.suppress(SQLAlchemyError):  # what is counted here is told even while the database is away
        gateway.metrics.unapproved(await gateway.store.runs.count_waiting())
    return Response(gateway.metrics.render(), media_type="text/plain; version=1.0.0; charset=utf-8")
