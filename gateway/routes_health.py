"""Whether the gateway lives, whether it can serve, and what it has counted."""

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from gateway import accounts
from gateway.accounts import Admin
from gateway.described import TEXT
from gateway.parts import Current
from umi.roles import Role

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """200 while the process serves."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A role is not ready"}})
async def ready(gateway: Current) -> Response:
    """200 when every role is ready, else 503; says for each role what is wrong."""
    reasons = await asyncio.gather(*(gateway.roles.is_ready(role) for role in Role))
    roles = {role.value: reason or "ok" for role, reason in zip(Role, reasons, strict=True)}
    is_ready = not any(reasons)
    return JSONResponse({"status": "ok" if is_ready else "not ready", "roles": roles}, 200 if is_ready else 503)


@router.get("/metrics", response_class=Response, responses={**accounts.PROBLEMS, **TEXT})
async def metrics(gateway: Current, _: Admin) -> Response:
    """Prometheus' text format; once there are keys, for admins."""
    return Response(gateway.metrics.render(), media_type="text/plain; version=1.0.0; charset=utf-8")
