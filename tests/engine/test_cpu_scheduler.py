"""What vLLM's scheduler computes in a step on a CPU when something urgent waits; no model is loaded."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.settings import RoleSettings
from services.vllm_engine import engine_arguments
from tests.engine.test_full_weights import random_model

pytest.importorskip("vllm")
BLOCK, STEP = 32, 64
Computed = dict[str, int]


class Engine:
    """A scheduler with some memory, and a model that always writes token 7."""

    def __init__(self, checkpoint: Any, blocks: int, at_once: int = 8) -> None:
        import torch
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        settings = RoleSettings(max_model_len=512, kv_cache_mib=64, dtype="float32", threads=1, max_num_seqs=at_once)
        arguments = engine_arguments(checkpoint, settings) | {"enable_prefix_caching": False}
        config = AsyncEngineArgs(**arguments).create_engine_config()
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=64, dtype=torch.float32)
        memory = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["0"], spec)])
        config.cache_config.num_gpu_blocks = blocks
        make: Callable[..., Any] = config.scheduler_config.get_scheduler_cls()
        self._scheduler = make(config, memory, StructuredOutputManager(config), block_size=BLOCK)

    def allow(self, adapters: int) -> None:
        from vllm.config import LoRAConfig

        self._scheduler.lora_config = LoRAConfig(max_loras=adapters)

    def ask(
        self, name: str, tokens: Sequence[int], priority: int = 0, write: int = 4, adapter: int | None = None
    ) -> None:
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        parameters = SamplingParams(max_tokens=write, ignore_eos=True)
        lora = None if adapter is None else LoRARequest(str(adapter), adapter, "/nowhere")
        request = Request(name, list(tokens), parameters, None, priority=priority, lora_request=lora)
        self._scheduler.add_request(request)

    def step(self) -> Computed:
        """Tokens computed for each request."""
        from vllm.v1.outputs import ModelRunnerOutput

        output = self._scheduler.schedule()
        names = list(output.num_scheduled_tokens)
        requests = self._scheduler.requests
        written = [[] if requests[name].num_computed_tokens < requests[name].num_tokens else [7] for name in names]
        numbers = {name: number for number, name in enumerate(names)}
        self._scheduler.update_from_output(output, ModelRunnerOutput(names, numbers, written))
        return dict(output.num_scheduled_tokens)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return random_model(tmp_path_factory.mktemp("models") / "one", 1)


def test_what_is_urgent_is_read_at_once_beside_what_is_written_and_the_others_go_on_after_it(checkpoint: Any) -> None:
    engine = Engine(checkpoint, blocks=100)
    engine.ask("short", range(20))
    assert engine.step() == {"short": 20}
    engine.ask("long", range(100, 300))
    engine.ask("next", range(300, 500))
    assert engine.step() == {"short": 1, "long": STEP - 1}
    engine.ask("trial", range(10, 110), priority=-1, write=1)
    engine.ask("other trial", range(110, 210), priority=-1, write=1)
    assert engine.step() == {"short": 1, "trial": 100, "other trial": 100}
    assert engine.step() == {"short": 1, "long": STEP - 1}
    assert engine.step() == {"long": STEP}


@pytest.mark.parametrize("is_other_urgent", [False, True])
def test_what_is_urgent_and_finds_no_memory_lets_those_go_on_that_have_it(
    checkpoint: Any, is_other_urgent: bool
) -> None:
    engine = Engine(checkpoint, blocks=9 if is_other_urgent else 8)
    engine.ask("long", range(100, 300), write=1)
    assert engine.step() == {"long": STEP}
    if is_other_urgent:
        engine.ask("way", [5], priority=-1, write=20)
    engine.ask("trial", range(10, 210), priority=-1, write=1)
    steps = [engine.step() for _ in range(9)]
    assert any("trial" in step for step in steps), steps


def test_while_something_urgent_is_written_no_prompt_is_read_and_a_trial_comes_at_once(checkpoint: Any) -> None:
    engine = Engine(checkpoint, blocks=100)
    engine.ask("long", range(100, 300))
    assert engine.step() == {"long": STEP}
    engine.ask("way", [5], priority=-1, write=5)
    assert [engine.step() for _ in range(3)] == [{"way": 1}] * 3
    engine.ask("trial", range(10, 110), priority=-1, write=1)
    assert engine.step() == {"way": 1, "trial": 100}
    assert engine.step() == {"way": 1}
    assert engine.step() == {"long": STEP}


def test_there_are_never_more_adapters_at_work_than_have_a_place_with_those_that_are_held_back(checkpoint: Any) -> None:
    engine = Engine(checkpoint, blocks=100, at_once=5)
    engine.allow(adapters=2)
    engine.ask("short", range(20), write=30, adapter=1)
    engine.step()
    engine.ask("long", range(100, 300), adapter=2)
    assert engine.step() == {"short": 1, "long": STEP - 1}
    engine.ask("trial", range(10, 110), priority=-1, write=10, adapter=3)
    engine.ask("next", range(600, 700), adapter=4)
    steps = [engine.step()]
    for number in range(4):  # as many as there is no room for: nobody is held back
        engine.ask(f"urgent {number}", range(400, 410), priority=-1, write=3)
    steps += [engine.step() for _ in range(60)]
    assert all(any(name in step for step in steps) for name in ("trial", "next")), steps
