"""In which numbers training keeps the frozen weights, and in which it multiplies."""

from dataclasses import dataclass

import torch

from data.bfloat16 import multiplies_bf16
from vlm_finetune.model import choose_dtype


@dataclass(frozen=True)
class Precision:
    """Data types of a training."""

    weights: torch.dtype
    """Of the frozen base; an adapter is always kept in float32."""
    arithmetic: torch.dtype
    """Of the products under autocast."""

    @classmethod
    def of(cls, name: str, device: torch.device) -> "Precision":
        """Types for the setting `name`; auto leaves the weights of a CPU in float32, as captioning uses them."""
        weights = choose_dtype(name, device)
        return cls(weights, torch.bfloat16 if name == "auto" and multiplies_bf16(device) else weights)
