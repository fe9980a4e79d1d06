"""The engine that serves for real: vLLM's AsyncLLM, in this process' own child.

Nothing of torch or vllm is imported before `load`.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from services import room
from services.engine import Constraint, EngineFailure, Generation, Phases, Replaced, Sampling
from services.full_weights import FullWeights, Model
from services.settings import RoleSettings
from services.vllm_sampling import endless, parameters
from umi.errors import BadCheckpoint, first_line
from umi.manifest import Checkpoint, Kind
from umi.tracing import is_on
from umi.wire import Heard

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.stats import RequestStateStats

T = TypeVar("T")
_NEEDS_RESTART = "needs a restart of this service: an engine holds either adapters on a backbone or full weights"
_FIRST = -1
"""vLLM's priority of what must not wait behind the turns of runs, which have 0."""
_TOKENS_A_THREAD = 256
"""Of prompts, in a step on a CPU that is not shared: half a second."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # those vLLM accepts as max_lora_rank


@dataclass(frozen=True)
class _Held:
    """A version in memory: its stop token and, for an adapter, what vLLM knows it by."""

    stop: int
    lora: "LoRARequest | None"


class VllmEngine:
    """One vLLM engine: adapters on the backbone, or one full model."""

    def __init__(self, settings: RoleSettings) -> None:
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._tokenizer: Any = None
        self._held: dict[str, _Held] = {}
        self._loras = 0
        self._max_rank: int | None = None
        self._full: FullWeights | None = None
        self._closing, self._is_slow = False, False

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and completion together."""
        return self._settings.max_model_len

    async def load(self, checkpoint: Checkpoint) -> None:
        """Start the engine; takes half a minute on a CPU. Raises BadCheckpoint or EngineFailure."""
        from vllm.platforms import current_platform

        fits(checkpoint, self._settings)
        if self._llm is not None:  # the one before this failed its trial
            await self._end()
        try:
            llm = await _in_thread(lambda: _start(engine_arguments(checkpoint, self._settings)))
        except Exception as error:  # the edge of a foreign program: it fails in too many ways to list
            what = f"{checkpoint.directory}: {first_line(error)}"
            raise EngineFailure(f"vLLM cannot load {what} (its log above)") from error
        if self._closing:
            llm.shutdown()
            return
        self._llm, self._tokenizer, self._is_slow = llm, llm.get_tokenizer(), current_platform.is_cpu()
        if checkpoint.manifest.kind is Kind.FULL:
            self._held[checkpoint.manifest.version] = _Held(_stop_id(self._tokenizer, checkpoint), None)
            self._full = await FullWeights.loaded(llm, checkpoint)
        else:
            self._max_rank = _max_rank(checkpoint)
            await self.add(checkpoint)

    async def add(self, checkpoint: Checkpoint) -> None:
        """Load an adapter beside the others, under an id of its own: vLLM may keep an id's old cached blocks.

        Raises BadCheckpoint when it is not for this backbone, of a higher rank than the engine was started for, larger
        than the memory that is left, or unreadable for vLLM.
        """
        from vllm.lora.request import LoRARequest

        fits(checkpoint, self._settings)
        manifest = checkpoint.manifest
        if manifest.kind is Kind.FULL or self._max_rank is None:
            raise BadCheckpoint(f"{manifest.version} {_NEEDS_RESTART}")
        if (manifest.rank or 0) > self._max_rank:
            raise BadCheckpoint(
                f"{manifest.version}: rank {manifest.rank} needs a restart; this engine has room for {self._max_rank}"
            )
        room.require(checkpoint, room.available())
        assert self._llm is not None
        stop = _stop_id(self._tokenizer, checkpoint)
        self._loras += 1
        lora = LoRARequest(manifest.version, self._loras, str(checkpoint.directory.resolve()))
        try:
            await self._llm.add_lora(lora)
        except Exception as error:  # the edge of a foreign program: it fails in too many ways to list
            self.check()
            raise BadCheckpoint(f"{manifest.version}: vLLM cannot load this adapter: {first_line(error)}") from error
        self._held[manifest.version] = _Held(stop, lora)

    async def swap(self, checkpoint: Checkpoint) -> None:
        """Load full weights into the engine that runs. Raises BadCheckpoint or EngineFailure."""
        from vllm.v1.engine.exceptions import EngineDeadError

        full, version = self._full, checkpoint.manifest.version
        if checkpoint.manifest.kind is not Kind.FULL or full is None:
            raise BadCheckpoint(f"{version} {_NEEDS_RESTART}")
        await asyncio.to_thread(full.model.holds, checkpoint)
        stop = _stop_id(self._tokenizer, checkpoint)
        held, self._held = self._held, {}
        try:
            await full.swap(checkpoint)
        except BadCheckpoint:
            self._held = held
            raise
        except EngineDeadError as error:
            raise EngineFailure("the vLLM engine process has died") from error
        self._held = {version: _Held(stop, None)}

    async def remove(self, version: str) -> None:
        """Unload an adapter."""
        held = self._held.pop(version, None)
        if held is not None and held.lora is not None and self._llm is not None:
            await self._llm.remove_lora(held.lora.lora_int_id)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt; the template has written its control tokens itself."""
        return self._tokenizer.encode(prompt, add_special_tokens=False)

    async def generate(
        self,
        version: str,
        tokens: Sequence[int],
        constraint: Constraint | None,
        sampling: Sampling,
        heard: Heard | None = None,
    ) -> Generation:
        """One completion; cancelling the task aborts it inside vLLM."""
        held = self._version(version)
        asked = parameters(constraint, sampling, held.stop, is_heard=heard is not None)
        final = await self._complete(version, held, tokens, asked, heard=heard)
        completion = final.outputs[0]
        return Generation(
            text=completion.text,
            prompt_tokens=len(tokens),
            completion_tokens=len(completion.token_ids),
            cached_tokens=final.num_cached_tokens or 0,
            finished=completion.finish_reason == "stop",
            phases=_phases(final.metrics),
        )

    async def surprise(self, version: str, tokens: Sequence[int], text: str) -> float:
        """From the likelihoods of a prompt's own tokens; vLLM computes them anew, whatever its prefix cache holds."""
        from vllm import SamplingParams

        held = self._version(version)
        read = [*tokens, *self.encode(text), held.stop]
        parameters = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        final = await self._complete(version, held, read, parameters, priority=_FIRST)
        behind = 0.0
        for token, likelihoods in zip(read[len(tokens) :], final.prompt_logprobs[len(tokens) :], strict=True):
            best = max(found.logprob for found in likelihoods.values())
            behind = max(behind, best - likelihoods[token].logprob)
        return behind

    @asynccontextmanager
    async def making_way(self) -> AsyncGenerator[None]:
        """On a CPU nobody's prompt is read meanwhile, since something urgent is being written all the time: a step that
        reads takes a fifth of a second, and both an adapter and its trial wait until one has ended."""
        text = asyncio.create_task(self._write_urgently()) if self._is_slow and self._held else None
        try:
            yield
        finally:
            if text is not None:
                text.cancel()
                await asyncio.gather(text, return_exceptions=True)

    async def _write_urgently(self) -> None:
        """Something that nobody reads, by the backbone alone, until it is cancelled."""
        stop = next(iter(self._held.values())).stop
        await self._complete("", _Held(stop, None), [stop], endless(self.max_model_len - 1), priority=_FIRST)

    def _version(self, version: str) -> _Held:
        if self._llm is None:
            raise EngineFailure("the engine is not loaded")
        if (held := self._held.get(version)) is None:
            raise Replaced(f"{version} is not held")
        return held

    async def _complete(
        self,
        version: str,
        held: _Held,
        tokens: Sequence[int],
        parameters: "SamplingParams",
        priority: int = 0,
        heard: Heard | None = None,
    ) -> Any:
        """vLLM's last output for a request. Raises Replaced when the version was swapped meanwhile, EngineFailure."""
        from vllm.v1.engine.exceptions import EngineDeadError

        assert self._llm is not None
        prompt: Any = {"prompt_token_ids": list(tokens)}
        final: Any = None
        try:
            async for output in self._llm.generate(
                prompt, parameters, uuid.uuid4().hex, lora_request=held.lora, priority=priority
            ):
                final = output
                if heard is not None:
                    heard(output.outputs[0].text)
        except EngineDeadError as error:
            raise EngineFailure("the vLLM engine process has died") from error
        if self._held.get(version) is not held:
            raise Replaced(f"{version} was swapped for other weights")
        return final

    def check(self) -> None:
        """Raises EngineFailure when vLLM's engine process has ended."""
        if self._llm is None or self._llm.errored:
            raise EngineFailure("the vLLM engine process has died")

    async def shutdown(self) -> None:
        """End the engine process."""
        self._closing = True
        await self._end()

    async def _end(self) -> None:
        if self._llm is not None:
            llm, self._llm = self._llm, None
            self._held.clear()
            await _in_thread(lambda: llm.shutdown(timeout=0))


def _phases(stats: "RequestStateStats | None") -> Phases | None:
    """From the times that vLLM notes for a request, on the engine's own clock; None when it notes none."""
    if stats is None or not stats.first_token_ts:
        return None
    return Phases(
        queue=stats.scheduled_ts - stats.queued_ts,
        prefill=stats.first_token_ts - stats.scheduled_ts,
        decode=stats.last_token_ts - stats.first_token_ts,
    )


def fits(checkpoint: Checkpoint, settings: RoleSettings) -> None:
    """Raises BadCheckpoint when full weights are not whole, and when an adapter is not for this backbone or not of the
    rank that its manifest says.
    """
    manifest, directory = checkpoint.manifest, checkpoint.directory
    if manifest.kind is Kind.FULL:
        Model.of(checkpoint)
        return
    if manifest.backbone != settings.backbone_name:
        raise BadCheckpoint(
            f"{directory} is an adapter for {manifest.backbone}, this service holds {settings.backbone_name}"
        )
    if not (settings.backbone / "config.json").is_file():
        raise BadCheckpoint(f"there is no backbone in {settings.backbone}: run python -m services.backbone first")
    if not any(settings.backbone.glob("*.safetensors")):
        raise BadCheckpoint(
            f"the backbone in {settings.backbone} has no *.safetensors weights: remove it and prepare again"
        )
    rank = _adapter_config(directory).get("r")
    if manifest.rank is None or rank != manifest.rank:
        raise BadCheckpoint(f"{directory}: the manifest says rank {manifest.rank}, adapter_config.json says {rank}")
    if manifest.rank > _RANKS[-1]:
        raise BadCheckpoint(f"{directory}: rank {manifest.rank} is more than the {_RANKS[-1]} that vLLM serves")


def engine_arguments(checkpoint: Checkpoint, settings: RoleSettings) -> dict[str, Any]:
    """vLLM's engine arguments for a checkpoint."""
    from vllm.platforms import current_platform

    manifest = checkpoint.manifest
    arguments: dict[str, Any] = {
        "model": str(checkpoint.directory if manifest.kind is Kind.FULL else settings.backbone),
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "scheduling_policy": "priority",  # all alike, but for the trial of new weights
        "load_format": "safetensors",  # never a pickle that lies beside them
        "enable_prefix_caching": True,
        "structured_outputs_config": {"backend": "xgrammar"},
        "disable_log_stats": not is_on(),  # they are where a request's phases come from
        "seed": 0,
    }
    if manifest.kind is Kind.ADAPTER:
        targets: list[str] | str = _adapter_config(checkpoint.directory).get("target_modules", "")
        arguments |= {
            "enable_lora": True,
            "max_lora_rank": _max_rank(checkpoint),
            "max_loras": settings.max_loras,
            "max_cpu_loras": settings.max_loras,
            "lora_target_modules": sorted(targets) if isinstance(targets, list) else None,
        }
    if current_platform.is_cpu():
        arguments |= {
            "kv_cache_memory_bytes": settings.kv_cache_mib * 2**20,
            "enforce_eager": True,
            "block_size": 32,
            "max_num_batched_tokens": _TOKENS_A_THREAD * settings.cpu_threads,
            "scheduler_cls": "services.cpu_scheduler.UrgentFirst",
            "async_scheduling": False,  # nothing runs beside a step here: it would only tell every token a step late
        }
        is_adapter = manifest.kind is Kind.ADAPTER
        arguments["worker_cls"] = "services.cpu_lora.LoraWorker" if is_adapter else "services.cpu_reload.ReloadWorker"
    else:
        arguments |= {
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "tensor_parallel_size": settings.tensor_parallel_size,
            "quantization": settings.quantization,
            "kv_cache_dtype": settings.kv_cache_dtype,
        }
    return arguments


def _start(arguments: dict[str, Any]) -> "AsyncLLM":
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


def _max_rank(checkpoint: Checkpoint) -> int:
    return next(rank for rank in _RANKS if rank >= (checkpoint.manifest.rank or 0))


def _adapter_config(directory: Path) -> dict[str, Any]:
    try:
        return json.loads((directory / "adapter_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{directory / 'adapter_config.json'}: {error}") from error


def _stop_id(tokenizer: Any, checkpoint: Checkpoint) -> int:
    stop = checkpoint.manifest.stop
    ids = tokenizer.encode(stop, add_special_tokens=False)
    if len(ids) != 1:
        raise BadCheckpoint(f"{checkpoint.directory}: the stop text {stop!r} is not one token of the tokenizer")
    return ids[0]


async def _in_thread(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result, error = work(), None
        except Exception as failure:  # handed over to whoever awaits
            result, error = None, failure
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True, name="umi-engine").start()
    return await future
