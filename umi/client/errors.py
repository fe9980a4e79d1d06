"""Every error of the client, in one tree.

ClientError
├── NotConnected         no gateway answers, or the connection broke, and all tries are used up
├── NotUnderstood        what answers is not a UMi gateway, or one whose answers are of another kind
└── Refused              the gateway said no; `type`, `detail` and `field` are its problem's
    ├── BadRequest       something in the request is wrong; `field` names it (400, 413, 422)
    ├── Unauthorized     no key, or one that is unknown or revoked (401)
    ├── Forbidden        the key lacks a scope (403)
    ├── NotFound         there is no such thing, or it is another tenant's (404)
    ├── Conflict         it cannot be done in this state (409)
    ├── TooMany          a limit of the key is reached; come back after `retry_after` seconds (429)
    ├── RunFailed        a run was begun and failed; it is stored as `run_id`, and `role` names who failed
    └── Unavailable      the gateway, or what it stands on, does not do its part now (5xx)
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from umi.client.results import Problem
from umi.errors import UmiError
from umi.patience import retry_after


class ClientError(UmiError):
    """Base of all."""


class NotConnected(ClientError):
    """Nothing answered. `run_id` is set when a run goes on whose stream broke: follow it with `runs.events`."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class NotUnderstood(ClientError):
    """The answer cannot be read."""


class Refused(ClientError):
    """The gateway's problem; the message is its detail."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.status, self.type, self.detail, self.field = problem.status, problem.type, problem.detail, problem.field
        self.run_id, self.role, self.retry_after = problem.run_id, problem.role, problem.retry_after


class BadRequest(Refused):
    """Change the request: `field` names what is wrong, `problem.errors` every wrong field."""


class Unauthorized(Refused):
    """Pass a valid key, or set UMI_API_KEY."""


class Forbidden(Refused):
    """Use a key with the scope that the message names."""


class NotFound(Refused):
    """Nothing of the key's tenant has that name or id."""


class Conflict(Refused):
    """For example a run that goes on cannot be deleted, and an idempotency key stands for one request only."""


class TooMany(Refused):
    """Come back after `retry_after` seconds."""


class RunFailed(Refused):
    """The run ended as failed. To try again is a new run, whose tool calls are made anew."""


class Unavailable(Refused):
    """Try again later."""


_BY_STATUS = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 429: TooMany}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """The error that a response with this status tells of, whatever its body is: a proxy may have written it."""
    problem = _problem(status, body)
    if problem.retry_after is None and (seconds := retry_after(headers.get("retry-after", ""))):
        problem = problem.model_copy(update={"retry_after": seconds})
    if problem.run_id is not None:
        return RunFailed(problem)
    return _BY_STATUS.get(status, BadRequest if status < 500 else Unavailable)(problem)


def _problem(status: int, body: bytes) -> Problem:
    try:
        data: Any = json.loads(body)
        if isinstance(data, dict) and isinstance(error := cast(dict[str, Any], data).get("error"), dict):
            return _of_openai(status, cast(dict[str, Any], error))
        return Problem.model_validate(data)
    except (ValueError, ValidationError, RecursionError):
        return Problem(type="http", title="Refused", status=status, detail=f"the answer is a bare {status}")


def _of_openai(status: int, error: dict[str, Any]) -> Problem:
    """`/v1/models` tells of errors in OpenAI's shape."""
    kind = str(error.get("code") or error.get("type"))
    field, detail = error.get("param"), str(error.get("message"))
    return Problem(type=kind, title=kind, status=status, detail=detail, field=None if field is None else str(field))
