"""One stage of GLPFT on a LoRA adapter: `global` learns every role's turns, `local` goes on with one role's.

In LoRA mode the local stage trains a copy of the global adapter on, so that each role is one small file over the same
public backbone.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, Trainer, TrainingArguments

from training.attention import NAME as TREE_ATTENTION
from training.attention import Opaque
from training.instances import Instance
from training.order import SimilarSizes
from training.packing import PrefixTree
from training.records import Record, learnt
from training.settings import StageSettings
from umi.context import fit
from umi.errors import ContextOverflow
from umi.manifest import ALL_ROLES
from umi.prompt import PromptTemplate
from umi.roles import Role
from umi.trajectory import Trajectory

Batch = dict[str, Any]


class TreeCollator:
    """Records to one prefix tree in which the turns of `roles` are learnt.

    A turn longer than `max_tokens` loses its oldest steps, by the rule of serving (`umi.context`), never a part of its
    target; `turns` counts those that are whole, shortened, or left out since even tools, query and target are too long.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        roles: Sequence[Role],
        max_tokens: int = 4096,
    ) -> None:
        self._tokenizer, self._template, self._roles = tokenizer, template, set(roles)
        self._max_tokens = max_tokens
        self.turns = Counter[str]()

    def tree(self, records: Sequence[Record]) -> PrefixTree:
        tree = PrefixTree()
        for record in records:
            for turn in learnt(record, self._template):
                if turn.role in self._roles:
                    self._add(tree, turn)
        return tree

    def _add(self, tree: PrefixTree, turn: Instance) -> None:
        prompt, target = self._tokens(turn.prompt), [*self._tokens(turn.target), self._tokenizer.eos_token_id]
        room, fate = self._max_tokens - len(target), "whole"
        if len(prompt) > room:
            try:
                shorter, _ = fit(turn.before, lambda kept: len(self._prompt(turn.role, kept)), room)
            except ContextOverflow:
                self.turns["left out"] += 1
                return
            prompt, fate = self._prompt(turn.role, shorter), "shortened"
        self.turns[fate] += 1
        tree.add(prompt, target)

    def _prompt(self, role: Role, trajectory: Trajectory) -> list[int]:
        return self._tokens(self._template.render(role, trajectory))

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, groups: Sequence[Sequence[Record]]) -> Batch:
        (group,) = groups
        return self.tree(group).tensors()


class TreeTrainer(Trainer):
    """The Trainer over prefix trees: its loss, and an order in which processes that work together have equal work."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SimilarSizes:
        groups = cast(Sequence[Sequence[Record]], train_dataset or self.train_dataset)
        sizes = [sum(len(record.model_dump_json()) for record in group) for group in groups]
        return SimilarSizes(sizes, self.args.world_size, self.args.seed)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Mean cross-entropy over the edges of one tree, in nats per token."""
        return edge_loss(model, inputs)


def edge_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the learnt edges of a prefix tree, in nats per token.

    Logits are computed only where something is learnt: the head is a third of the work.
    """
    output = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=batch["attention_mask"],  # four-dimensional, so that no other is made; the blocks count
        tree=Opaque(batch["blocks"]),
        use_cache=False,
        logits_to_keep=batch["edge_nodes"],
    )
    return nn.functional.cross_entropy(output.logits[0].float(), batch["edge_tokens"])


def load_model(backbone: Path, settings: StageSettings, parent: Path | None) -> PeftModel:
    """The backbone with a fresh adapter, or with a trainable copy of the parent's."""
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    base = AutoModelForCausalLM.from_pretrained(backbone, dtype=dtype, attn_implementation=TREE_ATTENTION)
    if parent is not None:
        model = PeftModel.from_pretrained(base, parent, is_trainable=True)
        # A checkpoint names its backbone for others; peft would look that name up on the hub at every save.
        model.peft_config["default"].base_model_name_or_path = str(backbone)
        return model
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
    )
    return get_peft_model(base, config)


def multiplies_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: a GPU, or a CPU with instructions for it."""
    return torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)


def compile_layers(model: PeftModel) -> None:
    """Fuse the small operations of every layer; whole-model graphs would be recompiled for each tree size."""
    for layer in model.get_base_model().model.layers:
        layer.compile(dynamic=True)


def groups_of(records: Sequence[Record], size: int, roles: Sequence[Role] = ALL_ROLES) -> list[Sequence[Record]]:
    """Neighbouring records, `size` at a time, without those in which none of `roles` has a turn; no group is empty."""
    groups = (records[start : start + size] for start in range(0, len(records), size))
    taught = ([record for record in group if not record.roles.isdisjoint(roles)] for group in groups)
    return [group for group in taught if group]


def train(
    records: Sequence[Record],
    roles: Sequence[Role],
    settings: StageSettings,
    backbone: Path,
    work: Path,
    parent: Path | None = None,
) -> tuple[PeftModel, list[dict[str, float]]]:
    """Train one stage; goes on from the last checkpoint in `work` when there is one.

    Returns the model and the log: a row for each report with `step`, `loss` (nats per token) and `learning_rate`.
    """
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    model = load_model(backbone, settings, parent)
    compile_layers(model)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.passes_per_step % processes:
        raise ValueError(f"{settings.passes_per_step} passes a step cannot be shared by {processes} processes")
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.passes_per_step // processes,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        logging_steps=5,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        bf16=multiplies_bfloat16(),
        ddp_find_unused_parameters=False,
    )
    trainer = TreeTrainer(
        model=model,
        args=arguments,
        train_dataset=groups_of(records, settings.tasks_per_pass, roles),  # type: ignore[arg-type]
        data_collator=(collate := TreeCollator(tokenizer, PromptTemplate.default(), roles)),
    )
    resume = any(work.glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=resume)
    print("turns: " + ", ".join(f"{count} {fate}" for fate, count in collate.turns.items()))
    return model, [row for row in trainer.state.log_history if "loss" in row]
