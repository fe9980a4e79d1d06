"""Training for real, on a model of random weights: what changes, what is learnt, and what is written."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import eagerly, short_tasks, tiny_backbone, tokenizer, tokens
from training import smoke
from training.collate import TreeCollator, survey
from training.export import CONFIG, WEIGHTS, About, export
from training.instances import instances
from training.lessons import Turns
from training.model import Model, load_model
from training.records import Record
from training.settings import StageSettings
from training.stage import Clock, Trained, edge_loss, groups_of, train
from training.tasks.build import Builder
from training.tasks.entities import Split
from training.tasks.execute import Tools
from umi.errors import BadCheckpoint, BadInput
from umi.grammar import plan_text
from umi.manifest import ALL_ROLES, Checkpoint, Kind
from umi.prompt import PromptTemplate
from umi.roles import Role, Turn
from umi.smoke import cases as read_cases

SETTINGS = StageSettings(learning_rate=2e-2, epochs=3, rank=4, alpha=8, save_steps=4)  # 6 steps
FACTS = {"stage": "global", "tasks": 12, "data": "generated tasks"}


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    with eagerly():
        yield


@pytest.fixture(scope="module")
def tasks() -> list[Record]:
    """Twelve short tasks: seconds are enough for them."""
    made = short_tasks(60)
    return [task.record() for task in made[:12]]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(tasks: list[Record], backbone: Path, work: Path) -> Trained:
    return train(tasks, Turns(), SETTINGS, backbone, work)


@pytest.fixture(scope="module")
def checkpoint(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("checkpoints") / "global"
    export(trained.model, tokenizer(), target, Turns(), About("global-1", "Tiny", FACTS, trained.log))
    return target


def weights(model: Model, adapter: bool) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.named_parameters() if ("lora_" in k) is adapter}


def test_a_turn_that_is_too_long_loses_its_oldest_steps_and_never_its_target(tasks: list[Record]) -> None:
    long = max(tasks, key=lambda record: len(record.trajectory.steps))
    last = list(instances(long.trajectory, long.answer, PromptTemplate.default()))[-1]
    room = len(tokens(last.prompt)) + len(tokens(last.target))  # the end of the text needs one more
    collate = TreeCollator(tokenizer(), Turns(last.role), max_tokens=room)
    assert last.target in tokenizer().decode(collate.tree([long]).tokens)
    tight = TreeCollator(tokenizer(), Turns(last.role), max_tokens=room - 1)
    tokens_left = tight.tokens(last)
    assert tokens_left is not None
    assert tokens_left.cut is not None
    assert tokens_left.cut.shortened + tokens_left.cut.dropped == 1
    assert tokens_left.target == [*tokens(last.target), tokenizer().eos_token_id]
    assert tokens_left.prompt[:30] == tokens(last.prompt)[:30]  # tools and query stay


def test_what_must_be_cut_is_known_before_training(tasks: list[Record]) -> None:
    long = max(tasks, key=lambda record: len(record.trajectory.steps))
    sizes = [len(tokens(turn.prompt + turn.target)) + 1 for turn in Turns().instances(long)]
    whole = survey([long], TreeCollator(tokenizer(), Turns(), max_tokens=max(sizes)))
    assert whole.counts["whole"] == len(sizes)
    shorter = survey([long], TreeCollator(tokenizer(), Turns(), max_tokens=max(sizes) - 1))
    assert (
        shorter.counts["shortened"]
        == sum(size == max(sizes) for size in sizes)
        == shorter.counts["dropped_steps"] + shorter.counts["shortened_observations"]
    )
    with pytest.raises(BadInput, match="nothing to learn"):
        survey([long], TreeCollator(tokenizer(), Turns(), max_tokens=60))


def test_smoke_cases_are_turns_that_the_model_takes_rightly_and_travel_with_the_checkpoint(
    trained: Trained, tasks: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(task for task in tasks if task.answer is not None)
    right = plan_text(first.trajectory.steps[0].plan)
    monkeypatch.setattr(smoke, "_write", lambda model, tokenizer, prompt: (right, True))
    cases = smoke.choose(trained.model, tokenizer(), Role.PLANNER, tasks, count=1)
    assert [(case.expected, case.text) for case in cases] == [({"plan": {"turn": "caller"}}, right)]
    export(trained.model, tokenizer(), tmp_path / "c", Turns(Role.PLANNER), About("p-1", "Tiny", FACTS, cases=cases))
    assert read_cases(Checkpoint.open(tmp_path / "c")) == cases
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o644}, "other users may read it"
    asked = [case for task in tasks if (case := smoke.first_turn(task, Role.PLANNER))]
    sizes = [
        len(tokenizer().encode(PromptTemplate.default().render(Role.PLANNER, case.trajectory)))
        for case in (*cases, *(case for case in asked if case.expected == cases[0].expected))
    ]
    assert sizes[0] == min(sizes), "a swap waits for it"
    assert len(smoke.choose(trained.model, tokenizer(), Role.PLANNER, tasks)) == 1, "the others expect the same"
    monkeypatch.setattr(smoke, "_write", lambda model, tokenizer, prompt: (right, False))
    assert smoke.choose(trained.model, tokenizer(), Role.PLANNER, tasks) == (), "another machine may write it otherwise"
    monkeypatch.setattr(smoke, "_write", lambda model, tokenizer, prompt: ("nonsense", True))
    assert smoke.choose(trained.model, tokenizer(), Role.PLANNER, tasks) == ()


def test_a_smoke_case_is_answered_by_the_model_itself(trained: Trained, tasks: list[Record]) -> None:
    (case,) = smoke.choose(trained.model, tokenizer(), Role.SUMMARIZER, tasks, count=1)
    assert case.expected == {}
    assert case.trajectory.steps[-1].plan.turn is Turn.CONCLUSION


def loss_of(model: Model, tasks: list[Record], *roles: Role) -> float:
    collate = TreeCollator(tokenizer(), Turns(*roles))
    with torch.no_grad():
        return sum(edge_loss(model, collate([group])).item() for group in groups_of(tasks, 3, Turns(*roles)))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float = 0.0) -> bool:
    assert left.keys() == right.keys()
    return all(torch.allclose(left[k], right[k], rtol=0, atol=tolerance) for k in left)


def test_training_changes_every_adapter_and_nothing_else(trained: Trained, backbone: Path) -> None:
    torch.manual_seed(SETTINGS.seed)
    fresh, model = load_model(backbone, SETTINGS), trained.model
    before, after = weights(fresh, adapter=True), weights(model, adapter=True)
    assert len(after) == 2 * 7 * 2  # A and B of seven linear layers in two blocks
    assert not any(torch.equal(before[k], after[k]) for k in after)
    assert same(weights(fresh, adapter=False), weights(model, adapter=False))
    assert {k for k, p in model.named_parameters() if p.requires_grad} == set(after)


def test_training_lowers_the_loss(trained: Trained, tasks: list[Record], backbone: Path) -> None:
    model, log = trained.model, trained.log
    fresh = load_model(backbone, SETTINGS)
    assert loss_of(model, tasks, *ALL_ROLES) < 0.95 * loss_of(fresh, tasks, *ALL_ROLES)
    assert [row["step"] for row in log] == [5]


def test_tasks_without_a_turn_of_the_role_are_left_out_and_the_others_keep_their_neighbours() -> None:
    made = [task.record() for task in Builder(Split.TRAIN, 5, Tools()).tasks(120, 3)]
    answered = [task for task in made if task.answer is not None]
    unanswered = [task for task in made if task.answer is None]
    mixed = [unanswered[0], unanswered[1], answered[0], *answered[:3]]
    assert groups_of(mixed, 3, Turns()) == [mixed[:3], mixed[3:]]
    assert groups_of(mixed, 3, Turns(Role.SUMMARIZER))[0] == [answered[0]]
    assert groups_of(mixed, 2, Turns(Role.SUMMARIZER))[0] == mixed[2:4]


@pytest.mark.parametrize("roles", [ALL_ROLES, (Role.PLANNER,), (Role.CALLER,), (Role.SUMMARIZER,)])
def test_every_token_of_every_target_of_its_roles_is_learnt_and_no_other(
    tasks: list[Record], roles: tuple[Role, ...]
) -> None:
    template = PromptTemplate.default()
    turns = [turn for task in tasks for turn in instances(task.trajectory, task.answer, template)]
    wanted = set[tuple[int, ...]]()
    for turn in turns:
        if turn.role in roles:
            prompt, target = tokens(turn.prompt), [*tokens(turn.target), tokenizer().eos_token_id]
            wanted |= {tuple(prompt + target[: end + 1]) for end in range(len(target))}
    tree = TreeCollator(tokenizer(), Turns(*roles)).tree(tasks)
    batch = tree.tensors()
    learnt = set[tuple[int, ...]]()
    for node, token in zip(batch["edge_nodes"].tolist(), batch["edge_tokens"].tolist(), strict=True):
        path = [token]
        while node >= 0:
            path.append(tree.tokens[node])
            node = tree.parents[node]
        learnt.add(tuple(reversed(path)))
    assert learnt == wanted


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    trained: Trained, tasks: list[Record], backbone: Path, work: Path, tmp_path: Path
) -> None:
    shutil.copytree(work / "checkpoint-4", tmp_path / "checkpoint-4")  # all that a run that died at step 5 left
    spent = Clock.going_on(tmp_path / "checkpoint-4").seconds
    resumed, log, _, tokens, seconds = train(tasks, Turns(), SETTINGS, backbone, tmp_path)
    assert 0 < spent < trained.seconds
    assert (tokens, seconds > spent) == (trained.tokens, True), "what was done before counts"
    assert same(weights(resumed, adapter=True), weights(trained.model, adapter=True), tolerance=1e-6)
    assert [row["step"] for row in log] == [row["step"] for row in trained.log]


def test_a_local_stage_starts_from_its_parents_weights(checkpoint: Path, trained: Trained, backbone: Path) -> None:
    local = load_model(backbone, SETTINGS.model_copy(update={"rank": 9}), checkpoint)
    rounded = {k: v.to(torch.bfloat16).float() for k, v in weights(trained.model, adapter=True).items()}
    assert same(weights(local, adapter=True), rounded)
    assert all(parameter.requires_grad == ("lora_" in name) for name, parameter in local.named_parameters())


def test_a_local_stage_learns_its_own_role_and_leaves_its_parent_alone(
    checkpoint: Path, tasks: list[Record], backbone: Path, tmp_path: Path
) -> None:
    parent = load_model(backbone, SETTINGS, checkpoint)
    local = train(tasks, Turns(Role.CALLER), SETTINGS, backbone, tmp_path, checkpoint).model
    assert loss_of(local, tasks, Role.CALLER) < loss_of(parent, tasks, Role.CALLER)
    Checkpoint.open(checkpoint)


def test_what_is_exported_is_a_checkpoint_that_opens(checkpoint: Path, trained: Trained) -> None:
    opened = Checkpoint.open(checkpoint)
    manifest = opened.manifest
    assert (manifest.version, manifest.roles, manifest.kind, manifest.rank) == ("global-1", ALL_ROLES, Kind.ADAPTER, 4)
    assert set(manifest.files) == {WEIGHTS, CONFIG}
    assert manifest.training["stage"] == "global"
    assert set(manifest.training["versions"]) == {"torch", "transformers", "peft"}
    assert manifest.metrics["final_loss"] == pytest.approx(trained.log[-1]["loss"], abs=1e-3)
    assert opened.template.source == PromptTemplate.default().source
    assert (checkpoint / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "12 generated tasks" in (checkpoint / "README.md").read_text("utf-8")


def test_exported_weights_are_bfloat16_and_those_that_were_trained(checkpoint: Path, trained: Trained) -> None:
    saved = load_file(checkpoint / WEIGHTS)
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    model = {k.replace(".default", ""): v.to(torch.bfloat16) for k, v in weights(trained.model, adapter=True).items()}
    assert same(saved, model)
    config: dict[str, Any] = json.loads((checkpoint / CONFIG).read_text("utf-8"))
    assert config["base_model_name_or_path"] == "Tiny"  # not a path of the machine that trained


def test_an_export_that_would_not_open_raises_and_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="version"):
        export(trained.model, tokenizer(), tmp_path / "c", Turns(), About("no/version", "Tiny", FACTS))
    assert list(tmp_path.iterdir()) == []


def test_an_altered_export_does_not_open(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    tensors = load_file(copy / WEIGHTS)
    save_file({k: v * 1.01 for k, v in tensors.items()}, copy / WEIGHTS)
    with pytest.raises(BadCheckpoint, match=WEIGHTS):
        Checkpoint.open(copy)
