"""An adapter merged into its backbone: full weights, for a role that is to have a model of its own."""

import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from umi.errors import BadInput

_KEPT = {
    "roles",
    "backbone",
    "stop",
    "max_input_tokens",
    "observation_tokens",
    "spaced_strings",
    "tool_mention",
    "metrics",
}
"""What a manifest says that merging does not change."""


def merge(
    source: Annotated[Path, typer.Argument(help="The adapter's checkpoint.")],
    target: Annotated[Path, typer.Argument(help="Checkpoint directory to write; must not exist yet.")],
    backbone: Annotated[Path, typer.Option(help="The backbone, as `python -m services.backbone` writes it.")] = Path(
        "var/backbone"
    ),
    version: Annotated[str | None, typer.Option(help="Its name; by default the adapter's with -full after it.")] = None,
) -> None:
    """Write an adapter and its backbone as one model: full weights."""
    try:
        written = merged(source, target, backbone, version)
    except BadInput as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{written}: written to {target}")


def merged(source: Path, target: Path, backbone: Path, version: str | None = None) -> str:
    """Write the checkpoint `target` and return its version. Prompt template and smoke cases are the adapter's.

    The sum is made in float32 and rounded once, to bfloat16; that the result still decides like the adapter is what the
    smoke cases show when a replica loads it. Raises BadCheckpoint for a source that is not whole, and BadInput when it
    is no adapter or `target` is there already.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from umi import manifest, smoke

    checkpoint = manifest.Checkpoint.open(source)
    about = checkpoint.manifest
    if about.kind is not manifest.Kind.ADAPTER:
        raise BadInput(f"{source} is full weights already", "source")
    if target.exists():
        raise BadInput(f"{target} is there already: weights never change under their name", "target")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32)
    PeftModel.from_pretrained(model, source).merge_and_unload().to(torch.bfloat16).save_pretrained(partial)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(partial)
    if smoke.FILE_NAME in about.files:
        shutil.copyfile(source / smoke.FILE_NAME, partial / smoke.FILE_NAME)
    written = manifest.write(
        partial,
        checkpoint.template,
        [path.name for path in partial.iterdir()],
        version=version or f"{about.version}-full",
        kind=manifest.Kind.FULL,
        parents=(about.version,),
        training={
            "stage": f"{about.training.get('stage', about.version)}, merged",
            "versions": {name: version_of(name) for name in ("torch", "transformers", "peft")},
        },
        **about.model_dump(include=_KEPT),
    )
    partial.rename(target)  # whole or not at all
    return written.version
