"""In which numbers a tower multiplies."""

from typing import Literal

import torch

from data.bfloat16 import multiplies_bf16
from fusion.tower import ImageTower, TextTower

Precision = Literal["auto", "fp32", "bf16"]

LARGE = 5_000_000
"""Weights from which bfloat16 made training faster on a CPU; smaller towers gained or lost by turns."""


def set_precision(tower: ImageTower | TextTower, name: Precision, *, device: torch.device) -> None:
    """Let `tower` multiply in `name`; auto is bf16 where the device has it, on a CPU for large towers only.

    The weights stay in float32, and so do the features and all that is computed from them.
    """
    if name == "auto":
        weights = sum(parameter.numel() for parameter in tower.parameters())
        if device.type == "cuda":
            tower.bf16 = torch.cuda.is_bf16_supported()
        else:
            tower.bf16 = multiplies_bf16(device) and weights >= LARGE
    else:
        tower.bf16 = name == "bf16"
