"""Checks before an engine starts, and the grammars it decodes with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.engine import Sampling
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from services.vllm_engine import fits
from services.vllm_sampling import json_grammar
from tests.checkpoints import bare
from umi.errors import BadCheckpoint
from umi.grammar import call_schema
from umi.manifest import Checkpoint
from umi.trajectory import ToolSpec


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "config.json").write_text("{}")
    (tmp_path / "backbone" / "model.safetensors").write_bytes(b"")
    return tmp_path / "backbone"


def adapter(directory: Path, rank: int) -> Checkpoint:
    checkpoint = bare(directory)
    (directory / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return checkpoint


def test_an_adapter_of_the_backbone_fits(tmp_path: Path, backbone: Path) -> None:
    fits(adapter(tmp_path / "a", 16), RoleSettings(backbone=backbone))


def test_an_adapter_of_another_backbone_is_refused_by_name(tmp_path: Path, backbone: Path) -> None:
    settings = RoleSettings(backbone=backbone, backbone_name="Other-7B")
    with pytest.raises(BadCheckpoint, match="an adapter for SmolLM2-135M-Instruct, this service holds Other-7B"):
        fits(adapter(tmp_path / "a", 16), settings)


def test_an_adapter_whose_rank_differs_from_its_manifest_is_refused(tmp_path: Path, backbone: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"manifest says rank 16, adapter_config\.json says 8"):
        fits(adapter(tmp_path / "a", 8), RoleSettings(backbone=backbone))


def test_a_missing_backbone_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"python -m services\.backbone"):
        fits(adapter(tmp_path / "a", 16), RoleSettings(backbone=tmp_path / "none"))


def test_the_service_with_a_scripted_engine_imports_neither_torch_nor_vllm() -> None:
    code = "import sys, services.launch, services.scripted; assert not {'torch', 'vllm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_the_scripted_engine_repeats_its_last_text_and_cuts_at_the_limit(tmp_path: Path) -> None:
    engine = ScriptedEngine(["one", "a b c"])
    await engine.load(bare(tmp_path))
    sampling = Sampling(max_tokens=2)
    texts = [await engine.generate("test-1", engine.encode("x"), None, sampling) for _ in range(3)]
    assert [(text.text, text.finished) for text in texts] == [("one", True), ("a b", False), ("a b", False)]


TOOL = ToolSpec(
    name="book",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1, "maxLength": 20},
            "nights": {"type": "integer", "minimum": 1, "maximum": 30},
            "note": {"type": "string"},
        },
        "required": ["city"],
    },
)


@pytest.mark.parametrize(
    ("arguments", "legal"),
    [
        ({"city": "Paris", "nights": 3}, True),
        ({"city": "Malmö", "note": 'say "hi"\n'}, True),
        ({"city": 'a "b" c'}, True),
        ({"city": "Paris", "nights": 31}, False),
        ({"city": ""}, False),
        ({"city": "x" * 21}, False),
        ({"nights": 3}, False),
        ({"city": "Paris", "other": 1}, False),
    ],
)
def test_the_json_grammar_admits_exactly_what_json_dumps_writes_of_legal_calls(
    arguments: dict[str, object], legal: bool
) -> None:
    xgrammar = pytest.importorskip("xgrammar")
    grammar = json_grammar(json.dumps(call_schema([TOOL, ToolSpec(name="now")])))
    assert grammar is not None
    tokens = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)], stop_token_ids=[0])
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(tokens).compile_grammar(grammar))
    text = json.dumps({"name": "book", "arguments": arguments}, ensure_ascii=False)
    assert (matcher.accept_string(text) and matcher.is_completed()) is legal


def test_a_schema_beyond_the_grammar_leaves_decoding_free() -> None:
    assert json_grammar('{"type": "nonsense"}') is None
