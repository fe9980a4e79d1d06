"""What differs between the roles, as a value: `services/planner`, `caller` and `summarizer` each define one."""

from collections.abc import Callable
from dataclasses import dataclass

from services.engine import Constraint
from umi.errors import BadInput
from umi.manifest import Manifest
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import RoleReply, Usage


@dataclass(frozen=True)
class RoleBehaviour:
    """A role's decoding and reading rules; everything else is common to all roles."""

    role: Role
    max_tokens: int
    reply_type: type[RoleReply]
    check: Callable[[Trajectory], None]
    """Raises BadInput when it is not this role's turn in the trajectory."""
    constrain: Callable[[Trajectory, Manifest], Constraint | None]
    """What may be written, given the trajectory and the manifest of the weights that write."""
    reply: Callable[[str, Trajectory, Manifest, Usage], RoleReply]
    """From text, trajectory, manifest and usage to the reply; raises RoleOutputInvalid when the text is unusable."""
    written: Callable[[str], str] | None = None
    """What of an unfinished text is sure to begin the reply's; None: nothing is shown before the whole."""
    cut: Callable[[str], str] | None = None
    """What serves of a text that reached `max_tokens`; None: nothing does."""
    observation_tokens: int | None = None
    """What is read of one observation at most, where the checkpoint does not say less; None: as the checkpoint says."""


def finished_steps_only(trajectory: Trajectory) -> None:
    """The planner's turn: every step has its call and observation. Raises BadInput naming the first that has not."""
    _finished(trajectory, len(trajectory.steps))


def newest_step_is_a_plan(trajectory: Trajectory) -> None:
    """The caller's and summarizer's turn: all steps are finished but the newest, which holds just the plan."""
    if not trajectory.steps:
        raise BadInput("there is no step whose plan gives this role its turn", "trajectory.steps")
    last = len(trajectory.steps) - 1
    _finished(trajectory, last)
    for name in ("call", "observation"):
        if getattr(trajectory.steps[last], name) is not None:
            raise BadInput("the newest step must hold just the plan", f"trajectory.steps.{last}.{name}")


def _finished(trajectory: Trajectory, count: int) -> None:
    for number, step in enumerate(trajectory.steps[:count]):
        if step.observation is None:
            raise BadInput("the step is not finished: it has no observation", f"trajectory.steps.{number}.observation")
