"""Settings of a role service: flags, environment variables with the prefix UMI_, or files of those names."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from umi.context import LEAST_BUDGET
from umi.logs import Style
from umi.settings import FileSettings


class RoleSettings(FileSettings):
    """A UMi role as an HTTP service around a vLLM engine.

    Each flag can be given as an environment variable too: --max-queue is UMI_MAX_QUEUE; or as a file, umi_max_queue, in
    the directory that UMI_SETTINGS_DIRECTORY names.
    """

    model_config = SettingsConfigDict(
        env_prefix="UMI_",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
        frozen=True,
        extra="ignore",
    )

    host: Annotated[str, Field(description="address to listen on; keep role services off public networks")] = (
        "127.0.0.1"
    )
    role_token: Annotated[
        SecretStr | None,
        Field(min_length=16, description="token that all but health checks must carry; give it as a file"),
    ] = None
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on")] = 8101
    backbone: Annotated[Path, Field(description="directory of the backbone that adapters sit on")] = Path(
        "var/backbone"
    )
    backbone_name: Annotated[
        str, Field(description="name of that backbone; an adapter whose manifest names another one is refused")
    ] = "SmolLM2-135M-Instruct"
    checkpoint: Annotated[
        Path, Field(description="checkpoint directory: manifest.json, prompt template, and an adapter or full weights")
    ] = Path("checkpoints/role")
    registry: Annotated[
        str | None,
        Field(description="registry (directory, or URL as s3://…) whose release is followed, in place of --checkpoint"),
    ] = None
    registry_cache: Annotated[
        Path, Field(description="where versions from a URL are kept; replicas on one machine share it")
    ] = Path("var/cache/registry")
    look_seconds: Annotated[
        float | None,
        Field(gt=0, le=3600, description="time between two looks at the release; by default 0.1, on a URL 2"),
    ] = None
    retire_seconds: Annotated[
        float, Field(ge=0, description="idle time after which a version that is no longer released is unloaded")
    ] = 30.0
    max_queue: Annotated[int, Field(ge=1, description="requests waiting or running; beyond, 503 with Retry-After")] = 64
    max_body_mib: Annotated[int, Field(ge=1, description="largest request body, in MiB; beyond, 413")] = 4
    max_model_len: Annotated[int, Field(ge=256, description="tokens of prompt and completion together")] = 4096
    observation_tokens: Annotated[
        int | None,
        Field(
            ge=LEAST_BUDGET,
            description="tokens that are read of one observation, where the checkpoint does not say less; what is "
            "longer is shortened by its structure",
        ),
    ] = None
    max_num_seqs: Annotated[int, Field(ge=1, description="requests that the engine computes at the same time")] = 16
    max_loras: Annotated[int, Field(ge=1, description="adapters held at the same time")] = 4
    kv_cache_mib: Annotated[
        int, Field(ge=64, description="memory for the KV cache on a CPU, in MiB (a GPU uses gpu-memory-utilization)")
    ] = 1024
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1, description="share of a GPU's memory to use")] = 0.9
    tensor_parallel_size: Annotated[int, Field(ge=1, description="GPUs that the model is split over")] = 1
    quantization: Annotated[
        str | None,
        Field(description="how vLLM quantises weights when it loads them, such as fp8"),
    ] = None
    kv_cache_dtype: Annotated[
        str, Field(description="vLLM dtype of the KV cache: auto, or fp8 for half the memory")
    ] = "auto"
    dtype: Annotated[str, Field(description="vLLM dtype of weights and activations")] = "bfloat16"
    threads: Annotated[int, Field(ge=0, description="CPU threads of the engine; 0 means one per available core")] = 0
    log: Annotated[
        Style | None, Field(description="log lines as json or text; text on a terminal and json otherwise when absent")
    ] = None
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$", description="log level")] = "info"

    @property
    def cpu_threads(self) -> int:
        """Threads that an engine on a CPU computes with."""
        return self.threads or len(os.sched_getaffinity(0))
