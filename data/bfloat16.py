"""Where products of bfloat16 are faster than those of float32."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "arm_bf16")


def multiplies_bf16(device: "torch.device") -> bool:
    """Whether `device` has instructions for products of bfloat16, which are then faster than those of float32."""
    import torch

    if device.type != "cpu":
        return device.type == "cuda"
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _INSTRUCTIONS)
