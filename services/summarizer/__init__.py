"""The summarizer: free text, the answer for the user."""

from services.engine import Constraint
from services.role import RoleBehaviour, newest_step_is_a_plan
from umi.grammar import parse_answer, whole_sentences
from umi.manifest import Manifest
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import SummaryReply, Usage


def _constrain(trajectory: Trajectory, manifest: Manifest) -> Constraint | None:
    return None


def _reply(text: str, trajectory: Trajectory, manifest: Manifest, usage: Usage) -> SummaryReply:
    return SummaryReply(version=manifest.version, usage=usage, answer=parse_answer(text))


SUMMARIZER = RoleBehaviour(
    role=Role.SUMMARIZER,
    max_tokens=256,
    reply_type=SummaryReply,
    check=newest_step_is_a_plan,
    constrain=_constrain,
    reply=_reply,
    written=str.strip,
    cut=whole_sentences,
)
