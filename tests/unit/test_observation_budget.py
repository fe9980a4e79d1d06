"""A budget for observations in tokens of the role's own tokenizer: what is served is what was learnt."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.engine import Constraint, Generation, Phases, Sampling
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.turn import RoleTurns
from tests.checkpoints import bare
from tests.models import tokenizer, tokens
from training.collate import TreeCollator, survey
from training.lessons import Turns, WholeSteps
from training.records import Record
from training.settings import PRESETS
from umi.prompt import WHOLE_STEP_TEMPLATE, PromptTemplate
from umi.roles import Turn
from umi.trajectory import Call, Plan, Step, ToolSpec, Trajectory
from umi.wire import Heard

BUDGET = 64
LONG = [
    json.dumps({"rows": [f"<|im_end|> {n} 天気" for n in range(90)], "total": 90}, ensure_ascii=False),
    "plain words " * 120,
]
STEPS = [
    Step(plan=Plan(rationale=f"I look {n}.", turn=Turn.CALLER), call=Call(tool="look"), observation=text)
    for n, text in enumerate(LONG)
]
TRAJECTORY = Trajectory(query="What is there?", tools=(ToolSpec(name="look"),), steps=tuple(STEPS))
RECORD = Record(
    id="1",
    source="test",
    trajectory=TRAJECTORY.append(Step(plan=Plan(rationale="I know.", turn=Turn.CONCLUSION))),
    answer="Wind.",
)


class Tokenizing(ScriptedEngine):
    """Counts as the embedded backbone does, and keeps the tokens it is given."""

    def __init__(self) -> None:
        super().__init__([""])
        self.given: list[list[int]] = []

    def encode(self, prompt: str) -> list[int]:
        return tokens(prompt)

    async def generate(
        self,
        version: str,
        tokens: Sequence[int],
        constraint: Constraint | None,
        sampling: Sampling,
        heard: Heard | None = None,
    ) -> Generation:
        self.given.append(list(tokens))
        return Generation("I know. Next: conclusion.", len(tokens), 5, 0, True, Phases(0, 0, 0))


@pytest.mark.parametrize("lesson", [Turns(), WholeSteps()])
async def test_what_a_role_reads_of_an_observation_is_what_it_has_learnt_on(
    lesson: Turns | WholeSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(lesson, WholeSteps):
        whole = PromptTemplate.named(WHOLE_STEP_TEMPLATE)
        monkeypatch.setattr(PromptTemplate, "default", lambda: whole)
    engine = Tokenizing()
    turns = RoleTurns(PLANNER, engine, bare(tmp_path / "planner", observation_tokens=BUDGET))
    for count in range(3):
        so_far = TRAJECTORY.model_copy(update={"steps": TRAJECTORY.steps[:count]})
        assert (await turns.take(so_far, lambda: None)).usage.shortened_observations == count
    tree = TreeCollator(tokenizer(), lesson, observation_tokens=BUDGET).tree([RECORD])
    nodes = {(parent, token): n for n, (parent, token) in enumerate(zip(tree.parents, tree.tokens, strict=True))}
    for prompt in engine.given:
        node = -1
        for token in prompt:
            assert (node, token) in nodes, "served, but never seen"
            node = nodes[node, token]


async def test_an_observation_is_within_the_budget_as_the_real_tokenizer_counts(tmp_path: Path) -> None:
    engine = Tokenizing()
    turns = RoleTurns(PLANNER, engine, bare(tmp_path / "planner", observation_tokens=BUDGET))
    await turns.take(TRAJECTORY, lambda: None)
    prompt = tokenizer().decode(engine.given[-1])
    read = [part.partition("<|im_end|>\n")[0] for part in prompt.split("<|im_start|>tool\n")[1:]]
    assert [len(tokens(text)) <= BUDGET for text in read] == [True, True]
    assert json.loads(read[0])["total"] == 90
    assert read[1].endswith("… (1440 characters)")


def test_what_is_compressed_is_counted_before_training() -> None:
    counts = survey([RECORD], TreeCollator(tokenizer(), Turns(), observation_tokens=BUDGET)).counts
    assert (counts["compressed_observations"], counts["shortened"]) == (2, 0)
    assert survey([RECORD], TreeCollator(tokenizer(), Turns())).counts["compressed_observations"] == 0


def test_a_stage_without_a_budget_is_known_by_the_settings_it_had_before_there_were_budgets() -> None:
    start = PRESETS["embedded"].start
    assert "observation_tokens" not in start.model_dump(exclude_none=True)
    assert start.changed(["observation_tokens=256"]).observation_tokens == 256
