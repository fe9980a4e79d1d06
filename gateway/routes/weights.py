"""Weights over HTTP: what is in the registry, what is released, what replicas serve, and every change of a release.

Weights are nobody's alone: they serve all tenants, so a key needs the scope `weights` for them. A release's generation
is its ETag; of two operators who send the one that both have seen as If-Match, one is answered 412.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from pydantic import Field

from gateway import accounts
from gateway.accounts import Releaser
from gateway.bodies import Body
from gateway.parts import Current
from gateway.problems import NotFound
from gateway.store import Key
from gateway.weights.desk import Decision, Desk, Version
from gateway.weights.status import Status
from gateway.weights.status import status as ask
from umi.errors import BadInput
from umi.manifest import Kind
from umi.release import Release, State
from umi.release import Version as Name
from umi.roles import Role
from umi.trajectory import Frozen
from umi.wire import Problem

PROBLEMS: dict[int | str, dict[str, Any]] = {
    **accounts.PROBLEMS,
    404: {"model": Problem, "description": "No release of the role yet, or this gateway knows no registry"},
    503: {"model": Problem, "description": "The registry's store cannot be used"},
}
CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"model": Problem, "description": "Somebody else has changed the release: look again, then decide"},
    422: {"model": Problem, "description": "The version is not there, is broken, or cannot be used so"},
}
router = APIRouter(prefix="/v1/weights", tags=["weights"], responses=PROBLEMS)
Why = Annotated[str, Field(max_length=500, description="Kept in the history.")]


class VersionView(Frozen):
    """A version in the registry; `problem` says why it cannot be used."""

    version: str
    use: str
    """stable, canary and shadow with their share, or nothing."""
    kind: Kind | None = None
    backbone: str | None = None
    parents: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict[str, float])
    problem: str | None = None


class RoleWeights(Frozen):
    """What there is for a role, and what is released of it."""

    role: Role
    release: State | None
    versions: list[VersionView]


class Changed(State):
    """The release that a change has made; `restart` says why replicas cannot load it as they run."""

    role: Role
    restart: str | None = None


class Reason(Body):
    """Why a release is changed."""

    why: Why = ""


class Chosen(Reason):
    """The version to be served."""

    version: Name


class Tried(Chosen):
    """A version on trial, and the share of the runs that get it."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Followed(Reason):
    """A version to compare, and the share of the runs that it follows; without a version, the comparison ends."""

    version: Name | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 0.1


def _desk(gateway: Current, key: Releaser) -> Desk:
    if gateway.desk is None:
        raise NotFound("this gateway knows no registry of weights: start it with UMI_REGISTRY set to its path or URL")
    return gateway.desk


At = Annotated[Desk, Depends(_desk)]


def _decision(
    key: Releaser,
    if_match: Annotated[
        str | None, Header(max_length=40, description='The ETag of the release that was looked at; "0" for none yet.')
    ] = None,
) -> tuple[Key, int | None]:
    """Who decides, and on which generation."""
    if if_match is None or if_match.strip() == "*":
        return key, None
    if not (found := re.fullmatch(r'\s*"(\d{1,9})"\s*', if_match)):
        raise BadInput('If-Match is the ETag of a release, such as "7", or *', "if-match")
    return key, int(found[1])


By = Annotated[tuple[Key, int | None], Depends(_decision)]


@router.get("")
def list_weights(desk: At) -> list[RoleWeights]:
    """All versions of every role, and what each of them is used for."""
    return [
        RoleWeights(
            role=role,
            release=_state(desk.registry.release(role)),
            versions=[_view(version) for version in desk.versions(role)],
        )
        for role in Role
    ]


@router.get("/status")
async def status(desk: At, gateway: Current) -> Status:
    """What every replica of every role serves, why one is behind, and what each version has done.

    Replicas are found through the roles' addresses: every address that the name stands for.
    """
    return await ask(gateway.settings.role_urls, desk.registry, gateway.settings.shown_to_roles)


@router.get("/{role}")
def show(role: Role, desk: At, response: Response) -> Release:
    """A role's release: what is served now, and the states before, with who and why."""
    return _tagged(desk.show(role), response)


@router.post("/{role}/release", responses=CHANGED)
def release(role: Role, body: Chosen, desk: At, by: By, response: Response) -> Changed:
    """Serve a version to all runs that begin from now on; runs in progress keep theirs."""
    return _changed(desk, desk.release(role, body.version, _made(by, body)), response)


@router.post("/{role}/canary", responses=CHANGED)
def canary(role: Role, body: Tried, desk: At, by: By, response: Response) -> Changed:
    """Try a version on a share of the runs."""
    return _changed(desk, desk.canary(role, body.version, body.share, _made(by, body)), response)


@router.post("/{role}/shadow", responses=CHANGED)
def shadow(role: Role, body: Followed, desk: At, by: By, response: Response) -> Changed:
    """Let a version take turns that nobody waits for, and count how often it decides alike."""
    return _changed(desk, desk.shadow(role, body.version, body.share, _made(by, body)), response)


@router.post("/{role}/promote", responses=CHANGED)
def promote(role: Role, desk: At, by: By, response: Response, body: Reason = Reason()) -> Changed:
    """The canary becomes stable."""
    return _changed(desk, desk.promote(role, _made(by, body)), response)


@router.post("/{role}/rollback", responses=CHANGED)
def rollback(role: Role, desk: At, by: By, response: Response, body: Reason = Reason()) -> Changed:
    """End a trial; without one, go back to the stable version before this one."""
    return _changed(desk, desk.rollback(role, _made(by, body)), response)


def _made(by: tuple[Key, int | None], body: Reason) -> Decision:
    key, generation = by
    return Decision(f"key {key.id} ({key.name})" if key.id else "the API, without a key", body.why, generation)


def _changed(desk: Desk, release: Release, response: Response) -> Changed:
    _tagged(release, response)
    return Changed(**release.model_dump(exclude={"history"}), restart=desk.restart(release))


def _tagged(release: Release, response: Response) -> Release:
    response.headers["etag"] = f'"{release.generation}"'
    return release


def _state(release: Release | None) -> State | None:
    return State.model_validate(release.model_dump(exclude={"role", "history"})) if release else None


def _view(version: Version) -> VersionView:
    found = version.manifest
    if found is None:
        return VersionView(version=version.name, use=version.use, problem=version.problem)
    return VersionView(
        version=version.name,
        use=version.use,
        kind=found.kind,
        backbone=found.backbone,
        parents=found.parents,
        metrics=found.metrics,
    )
