"""The paper's systems as a table, run for real on a model of random weights."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.checkpoints import bare
from tests.models import eagerly, short_tasks, tiny_backbone, tokenizer, tokens
from training.collate import TreeCollator
from training.commands_static import chosen
from training.data import Data
from training.instances import instances
from training.lessons import Turns, WholeSteps
from training.records import Record
from training.runs import Backbone, run_system
from training.settings import PRESETS, Preset, StageSettings
from training.systems import STAGES, SYSTEMS, Part
from umi.errors import BadInput
from umi.manifest import ALL_ROLES, Checkpoint
from umi.prompt import WHOLE_STEP_TEMPLATE, PromptTemplate
from umi.roles import Role, Turn

SETTINGS = StageSettings(learning_rate=1e-2, rank=2, alpha=4, passes_per_step=1)
PRESET = Preset(start=SETTINGS, local=dict.fromkeys(Role, SETTINGS))


@pytest.fixture(scope="module")
def records() -> list[Record]:
    made = short_tasks(60)
    return [task.record() for task in made if task.answer is not None][:6]


@pytest.fixture(scope="module")
def data(records: list[Record]) -> Data:
    return Data(records, "0" * 64, "test tasks", ())


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone(tiny_backbone(tmp_path_factory.mktemp("backbone")), "Tiny")


@pytest.fixture(scope="module")
def trained(data: Data, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("systems")
    with eagerly():
        for name in SYSTEMS:
            run_system(name, PRESET, [], data, backbone, folder)
    return folder


def test_checkpoints_that_are_only_compared_carry_no_words_of_their_data(trained: Path) -> None:
    assert list(trained.glob("*/*/manifest.json"))
    assert not list(trained.glob("*/*/smoke.json"))


def test_a_whole_step_is_what_the_three_roles_write_one_after_the_other(records: list[Record]) -> None:
    template, end = PromptTemplate.named(WHOLE_STEP_TEMPLATE), tokenizer().eos_token_id
    for record in records:
        turns = list(instances(record.trajectory, record.answer, template))
        steps = list(WholeSteps().instances(record))
        assert len(steps) == len(record.trajectory.steps)
        collate = TreeCollator(tokenizer(), WholeSteps())
        for index, step in enumerate(steps):
            plan = turns[2 * index]
            tokenized = collate.tokens(step)
            assert tokenized is not None
            whole = tokenized.prompt + tokenized.target
            assert whole[: len(tokens(plan.prompt + plan.target))] == tokens(plan.prompt) + tokens(plan.target)
            if record.trajectory.steps[index].plan.turn is not Turn.GIVE_UP:
                rest = turns[2 * index + 1]
                assert whole == [*tokens(rest.prompt), *tokens(rest.target), end]


def test_a_whole_step_with_a_turn_that_is_not_to_be_learnt_is_left_out(records: list[Record]) -> None:
    record = records[0]
    without = record.model_copy(update={"unlearnt": ((0, Role.CALLER),)})
    assert len(list(WholeSteps().instances(without))) == len(record.trajectory.steps) - 1
    unanswered = record.model_copy(update={"answer": None})
    assert len(list(WholeSteps().instances(unanswered))) == len(record.trajectory.steps) - 1


def test_a_prompt_of_whole_steps_only_grows(records: list[Record]) -> None:
    template = PromptTemplate.named(WHOLE_STEP_TEMPLATE)
    for record in records:
        turns = list(instances(record.trajectory, record.answer, template))
        for before, after in pairwise(turns):
            written = "" if before.role is Role.CALLER else before.target  # a call is shown without its spaces
            assert after.prompt.startswith(before.prompt + written)


def test_halves_share_no_record_and_keep_neighbours_together(records: list[Record]) -> None:
    many = [record.model_copy(update={"id": str(number)}) for number, record in enumerate(records * 3)]
    one, other = (
        [int(record.id) for record in part.of(many)] for part in (Part.ONE_HALF, Part.OTHER_HALF)
    )  # fmt: skip
    assert sorted(one + other) == list(range(18))
    assert one == [0, 1, 2, 6, 7, 8, 12, 13, 14]


def test_without_reuse_the_roles_go_on_with_what_the_global_stage_has_not_seen() -> None:
    whole, half = STAGES["umi/planner"], STAGES["umi-without-reuse/planner"]
    assert (whole.part, STAGES["umi/global"].part) == (Part.ALL, Part.ALL)
    assert {half.part, STAGES["umi-without-reuse/global"].part} == {Part.ONE_HALF, Part.OTHER_HALF}
    assert STAGES["multi-one-stage/planner"].parent is None
    assert SYSTEMS["umi"].stages() == ["umi/global", "umi/planner", "umi/caller", "umi/summarizer"]
    assert SYSTEMS["single-multi-task"].stages() == ["umi/global"]


def test_every_stage_becomes_a_checkpoint_of_its_roles_part_and_parent(trained: Path) -> None:
    manifests = {name: Checkpoint.open(trained / name).manifest for name in STAGES}
    for name, stage in STAGES.items():
        manifest = manifests[name]
        assert manifest.roles == stage.lesson.roles
        assert manifest.spaced_strings == (Role.CALLER in manifest.roles)
        assert manifest.parents == ((manifests[stage.parent].version,) if stage.parent else ())
        assert manifest.training["part"] == stage.part
        assert manifest.training["tasks"] == (6 if stage.part is Part.ALL else 3)
    single = Checkpoint.open(trained / "single-llm/single")
    assert single.template.source == PromptTemplate.named(WHOLE_STEP_TEMPLATE).source


def test_a_stage_that_is_done_is_not_trained_again(trained: Path, data: Data, backbone: Backbone) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/*/manifest.json")}
    assert len(before) == len(STAGES)
    run_system("umi", PRESET, [], data, backbone, trained)
    assert {path: path.stat().st_mtime_ns for path in trained.glob("*/*/manifest.json")} == before


@pytest.mark.parametrize("change", [{"data": {"sha256": "1" * 64}}, {"changes": ["learning_rate=1"]}])
def test_a_checkpoint_of_other_data_or_settings_is_not_taken_for_this_ones(
    trained: Path, data: Data, backbone: Backbone, change: dict[str, Any]
) -> None:
    other = Data(data.records, change.get("data", {}).get("sha256", data.sha256), data.description, ())
    with pytest.raises(BadInput, match=r"data_sha256|settings"):
        run_system("umi", PRESET, change.get("changes", []), other, backbone, trained)


def test_the_static_evaluation_serves_each_trained_system(trained: Path) -> None:
    served = chosen(None, trained)
    assert list(served) == list(SYSTEMS)
    assert served["umi"].options == ["--checkpoints", str(trained / "umi")]
    assert served["single-multi-task"].options == ["--single", str(trained / "umi" / "global")]
    assert served["single-llm"].weights() == "single-1"
    assert served["multi-one-stage"].weights() == "planner-1, caller-1, summarizer-1"
    with pytest.raises(BadInput, match="three roles"):
        chosen(["three roles"], trained)


def test_a_system_that_is_not_finished_is_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="training system"):
        chosen(None, tmp_path)
    for role in (Role.PLANNER, Role.CALLER):
        bare(tmp_path / "umi" / role, roles=(role,))
    bare(tmp_path / "single-llm" / "single", roles=ALL_ROLES)
    assert list(chosen(None, tmp_path)) == ["single-llm"]


def test_an_adapter_gives_the_logits_of_the_trained_model(trained: Path, backbone: Backbone, data: Data) -> None:
    """bfloat16 keeps eight bits of a weight, so logits of about one differ by less than 0.05."""
    from peft import PeftModel

    prompt = next(Turns().instances(data.records[0])).prompt
    row = torch.tensor([tokens(prompt)])
    logits = []
    work = max((trained / "work" / "umi/global").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    for directory in (trained / "umi/global", work):
        base: Any = AutoModelForCausalLM.from_pretrained(backbone.directory, dtype=torch.float32)
        with torch.no_grad():
            logits.append(PeftModel.from_pretrained(base, directory).eval()(input_ids=row).logits)
    assert (logits[0] - logits[1]).abs().max() < 0.05
    with torch.no_grad():
        untrained: Any = AutoModelForCausalLM.from_pretrained(backbone.directory, dtype=torch.float32)
        assert (untrained(input_ids=row).logits - logits[1]).abs().max() > 0.2


def test_the_papers_hyperparameters_are_a_preset() -> None:
    paper, lora = PRESETS["7b"], PRESETS["7b-lora"]
    one = paper.start
    assert (one.learning_rate, one.epochs, one.warmup, one.weight_decay, one.rank) == (5e-5, 2, 0.4, 0, 0)
    planner, summarizer = paper.local[Role.PLANNER], paper.local[Role.SUMMARIZER]
    assert (planner.learning_rate, planner.epochs, planner.warmup, planner.weight_decay) == (1e-5, 1, 0.2, 0.01)
    assert (summarizer.epochs, summarizer.warmup) == (2, 0.4)
    assert (lora.start.rank, lora.start.alpha, lora.start.dropout, lora.start.targets) == (
        8,
        16,
        0.05,
        ("q_proj", "v_proj"),
    )


def test_single_values_of_a_preset_are_changed_by_name() -> None:
    changed = SETTINGS.changed(["rank=0", "learning_rate=1e-4", 'targets=["q_proj"]'])
    assert (changed.rank, changed.learning_rate, changed.targets) == (0, 1e-4, ("q_proj",))
    for wrong in ("rank", "ranks=3", "rank=many", "warmup=1"):
        with pytest.raises(BadInput, match=r"rank|warmup"):
            SETTINGS.changed([wrong])
