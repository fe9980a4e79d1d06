"""Roles that follow a script, for developing these drills: one answer to whatever is asked."""

import json

from ray.serve import Application

from deploy.ray import apps
from services.engine import Constraint, Sampling
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from umi.roles import Role

_LOAD_SECONDS, _TOKEN_SECONDS = 2.0, 0.05


def role(args: dict[str, str]) -> Application:
    """As deploy.ray.apps.role."""
    name = Role(args["role"])
    texts = {Role.PLANNER: _plan, Role.CALLER: _call, Role.SUMMARIZER: _summary}

    def engine(settings: RoleSettings) -> ScriptedEngine:
        return ScriptedEngine(texts[name], seconds_per_token=_TOKEN_SECONDS, seconds_to_load=_LOAD_SECONDS)

    return apps.bound(name, engine)


def _plan(prompt: str, constraint: Constraint | None, sampling: Sampling) -> str:
    if "<|im_start|>tool" in prompt.split() or "prime_factors" not in prompt:
        return "I know enough. Next: conclusion."
    return "To find out whether 2027 is prime, use prime_factors. Next: caller."


def _call(prompt: str, constraint: Constraint | None, sampling: Sampling) -> str:
    return json.dumps({"name": "prime_factors", "arguments": {"number": 2027}})


def _summary(prompt: str, constraint: Constraint | None, sampling: Sampling) -> str:
    return "2027 is a prime number, and the distance from Madrid to Tokyo is 10762.1 km."
