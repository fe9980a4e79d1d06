"""The caller: one call of an offered tool, with arguments of that tool's own schema."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, relevance
from referencing import Registry
from referencing.exceptions import Unresolvable

from services.engine import Constraint
from services.role import RoleBehaviour, newest_step_is_a_plan
from umi.errors import BadInput, RoleOutputInvalid
from umi.grammar import call_schema, closed, parse_call
from umi.manifest import Manifest
from umi.roles import Role
from umi.spacing import unspaced, with_room
from umi.trajectory import JsonObject, Trajectory
from umi.wire import CallReply, Usage


def _check(trajectory: Trajectory) -> None:
    newest_step_is_a_plan(trajectory)
    if not trajectory.tools:
        raise BadInput("there is no tool to call", "trajectory.tools")
    for number, tool in enumerate(trajectory.tools):
        try:
            Draft202012Validator.check_schema(tool.parameters)
        except SchemaError as error:
            where = f"trajectory.tools.{number}.parameters"
            raise BadInput(f"not a JSON Schema: {error.message}", where) from error


def _constrain(trajectory: Trajectory, manifest: Manifest) -> Constraint:
    tools = with_room(trajectory.tools) if manifest.spaced_strings else trajectory.tools
    return Constraint("json", json.dumps(call_schema(tools), ensure_ascii=False))


def _violation(schema: JsonObject, arguments: JsonObject) -> str | None:
    """The worst of what is wrong with the arguments, in words."""
    # an empty registry: a schema never makes this service fetch anything
    validator: Any = Draft202012Validator(schema, registry=Registry())
    try:
        errors: list[Any] = list(validator.iter_errors(arguments))
    except Unresolvable as error:
        raise BadInput(str(error), "trajectory.tools") from error
    if not errors:
        return None
    worst: Any = max(errors, key=relevance)
    where = "".join(f".{part}" for part in worst.absolute_path)
    return f"arguments{where}: {worst.message}"


def _reply(text: str, trajectory: Trajectory, manifest: Manifest, usage: Usage) -> CallReply:
    call = parse_call(text)
    if manifest.spaced_strings:
        call = unspaced(call, trajectory.tools)
    offered = {tool.name: tool for tool in trajectory.tools}
    if call.tool not in offered:
        raise RoleOutputInvalid(Role.CALLER, f"{call.tool!r} is not one of the offered tools")
    problem = _violation(closed(offered[call.tool].parameters), call.arguments)
    if problem is not None:
        raise RoleOutputInvalid(Role.CALLER, f"{call.tool}: {problem}")
    return CallReply(version=manifest.version, usage=usage, call=call)


CALLER = RoleBehaviour(
    role=Role.CALLER,
    max_tokens=256,
    reply_type=CallReply,
    check=_check,
    constrain=_constrain,
    reply=_reply,
)
