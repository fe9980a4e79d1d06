"""The training command with FSDP on processes without a GPU: `accelerate launch … -m tests.fsdp_on_cpu global …`.

accelerate 1.15 reads its FSDP configuration on accelerators only; on CPUs it would quietly train without sharding.
"""

from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from training.__main__ import app

_init = AcceleratorState.__init__


def _with_fsdp(self: Any, *arguments: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    _init(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = _with_fsdp  # type: ignore[method-assign]
    app()
