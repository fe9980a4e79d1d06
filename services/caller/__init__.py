"""The caller: one call of an offered tool, with arguments of that tool's own schema."""

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from services.engine import Constraint
from services.role import RoleBehaviour, newest_step_is_a_plan
from umi.errors import BadInput, RoleOutputInvalid
from umi.grammar import call_schema, closed, parse_call
from umi.roles import Role
from umi.trajectory import Trajectory
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


def _constrain(trajectory: Trajectory) -> Constraint:
    return Constraint("json", json.dumps(call_schema(trajectory.tools), ensure_ascii=False))


def _reply(text: str, trajectory: Trajectory, version: str, usage: Usage) -> CallReply:
    call = parse_call(text)
    offered = {tool.name: tool for tool in trajectory.tools}
    if call.tool not in offered:
        raise RoleOutputInvalid(Role.CALLER, f"{call.tool!r} is not one of the offered tools")
    schema = closed(offered[call.tool].parameters)
    try:  # an empty registry: a schema never makes this service fetch anything
        error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(call.arguments))
    except Unresolvable as unresolvable:
        raise BadInput(f"{call.tool}: {unresolvable}", "trajectory.tools") from unresolvable
    if error is not None:
        where = "".join(f".{part}" for part in error.absolute_path)
        raise RoleOutputInvalid(Role.CALLER, f"arguments{where} of {call.tool}: {error.message}")
    return CallReply(version=version, usage=usage, call=call)


CALLER = RoleBehaviour(
    role=Role.CALLER,
    max_tokens=256,
    reply_type=CallReply,
    check=_check,
    constrain=_constrain,
    reply=_reply,
)
