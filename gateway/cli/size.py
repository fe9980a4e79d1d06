"""umi size: which model fits on which card, and how many runs at once."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Failed
from gateway.sizing import BYTES, CARDS, GIB, MODELS, Model, Plan
from gateway.sizing import size as computed

_A_RUN = 2000
"""Tokens of a usual run: what a test task of the example tools takes, read and written."""


def size(
    model: Annotated[
        str, typer.Argument(help=f"{', '.join(MODELS)}, or the directory of a checkpoint with a config.json.")
    ] = "7b",
    weights: Annotated[str, typer.Option(help="bf16, fp8 or int4.")] = "bf16",
    kv: Annotated[str, typer.Option(help="Of the KV cache: bf16 or fp8.")] = "bf16",
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs that one role is split over.")] = 1,
    roles: Annotated[int, typer.Option(min=1, max=3, help="Roles that share a card: 1, or 3 by memory fraction.")] = 1,
    utilization: Annotated[float, typer.Option(min=0.1, max=1.0, help="Share of a card's memory in use.")] = 0.9,
    max_model_len: Annotated[int, typer.Option(min=256, help="Tokens of prompt and completion together.")] = 4096,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Requests that the engine computes at once.")] = 64,
) -> None:
    """Weights, KV cache and runs at once of one role, on common cards. Computed, not measured: gateway/sizing.py."""
    if weights not in BYTES or kv not in ("bf16", "fp8"):
        raise Failed(f"--weights is one of {', '.join(BYTES)}; --kv is bf16 or fp8")
    shape = _shape(model)
    plan = Plan(weights, kv, tensor_parallel, utilization / roles, max_model_len, max_num_seqs)
    table = Table(
        "card", "weights GiB", "KV cache GiB", "tokens", f"runs of {max_model_len:,}", f"of {_A_RUN:,}", box=None
    )
    for card, memory in CARDS.items():
        found = computed(shape, plan, memory)
        if found.kv_cache <= 0:
            short = f"lacks {-found.kv_cache / GIB:.1f}"
            table.add_row(card, f"{found.weights / GIB:.1f}", short, "", "", "")
            continue
        cells = (
            f"{found.weights / GIB:.1f}",
            f"{found.kv_cache / GIB:.1f}",
            f"{found.kv_cache / found.kv_per_token:,.0f}",
        )
        table.add_row(card, *cells, str(found.at_full_length), str(found.at(_A_RUN)))
    kind = f"{weights} weights, {kv} KV cache" + (f", split over {tensor_parallel} GPUs" if tensor_parallel > 1 else "")
    per = f"a third of {utilization:.0%}" if roles == 3 else f"{utilization / roles:.0%}"
    billions = (shape.linear + shape.embeddings) / 1e9
    Console().print(f"{model}: {billions:.2f} billion parameters, {kind}; {per} of each card's memory", table, sep="\n")


def _shape(model: str) -> Model:
    if model in MODELS:
        return MODELS[model]
    try:
        return Model.read(Path(model))
    except (OSError, ValueError, KeyError) as error:
        raise Failed(f"{model} is none of {', '.join(MODELS)}, and has no config.json that tells: {error}") from error
