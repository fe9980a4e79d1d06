"""Asking the agent as OpenAI's client does, for contract tests."""

from typing import Any

import openai

from tests.world import World
from umi.roles import Role


def connect(gateway: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="x", base_url=f"{gateway}/v1", max_retries=0, timeout=20)


def chat(client: openai.OpenAI, *texts: str, **fields: Any) -> Any:
    """Texts are the user's and the assistant's in turn."""
    roles = ("user", "assistant")
    messages: Any = [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts or ("2 + 3?",))]
    return client.chat.completions.create(**{"model": "umi", "messages": messages, **fields})


def respond(client: openai.OpenAI, **fields: Any) -> Any:
    return client.responses.create(**{"model": "umi", "input": "2 + 3?", **fields})


def queries(world: World) -> list[str]:
    """What the planners of the runs were asked first."""
    asked = [request for role, request in world.script.requests if role is Role.PLANNER]
    return [request.trajectory.query for request in asked if not request.trajectory.steps]


def stored(world: World, run_id: str) -> dict[str, Any]:
    return world.client.get(f"/v1/runs/{run_id}").json()
