"""Starts the training as `-m vlm_finetune.train` does, with FSDP and DeepSpeed taken up on the CPU as well.

accelerate itself heeds them on accelerators only, and trains under DDP elsewhere. Torch and DeepSpeed can do both over
gloo, so that all but accelerate's choice is what runs on GPUs.
"""

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from data.command import run_command
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.train import finetune

_real = AcceleratorState.__init__


def _sharded(self: AcceleratorState, *arguments: Any, **settings: Any) -> None:
    if settings.get("deepspeed_plugin") is not None:
        settings["cpu"] = False
    _real(self, *arguments, **settings)
    if settings.get("fsdp_plugin") is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = settings["fsdp_plugin"]


if __name__ == "__main__":
    AcceleratorState.__init__ = _sharded  # type: ignore[method-assign]
    raise SystemExit(run_command(finetune, FinetuneConfig, name="finetune"))
