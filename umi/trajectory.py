"""A trajectory: the query, the tools on offer, and the steps taken so far."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from umi.roles import Turn

JsonObject = dict[str, Any]


class Frozen(BaseModel):
    """An immutable value whose unknown fields are an error, so that a misspelt field is never silently lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolSpec(Frozen):
    """A tool as a model sees it: a name, what it does, and a JSON Schema (an object) of its arguments."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str = ""
    parameters: JsonObject = Field(default_factory=lambda: {"type": "object", "properties": {}})


class Plan(Frozen):
    """A planner's output: why, and whose turn is next."""

    rationale: str
    turn: Turn


class Call(Frozen):
    """A caller's output: one tool and its arguments."""

    tool: str
    arguments: JsonObject = Field(default_factory=dict[str, Any])


class Step(Frozen):
    """One round of the loop. `call` and `observation` are None until they have happened."""

    plan: Plan
    call: Call | None = None
    observation: str | None = None


class Trajectory(Frozen):
    """Everything a role may read when its turn comes. Steps are only ever appended."""

    query: str
    tools: tuple[ToolSpec, ...] = ()
    steps: tuple[Step, ...] = ()

    def append(self, step: Step) -> "Trajectory":
        """The trajectory with one more step."""
        return self.model_copy(update={"steps": (*self.steps, step)})

    def offer(self, tools: Iterable[ToolSpec]) -> "Trajectory":
        """The trajectory with more tools, and without its newest step, whose plan missed them."""
        return self.model_copy(update={"tools": (*self.tools, *tools), "steps": self.steps[:-1]})

    def replace_last(self, **changes: Call | str) -> "Trajectory":
        """The trajectory with fields of its newest step filled in, e.g. `replace_last(observation="…")`."""
        last = self.steps[-1].model_copy(update=changes)
        return self.model_copy(update={"steps": (*self.steps[:-1], last)})
