"""The loss of one batch under the curriculum."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.prmf import FusionOutput


@dataclass(frozen=True)
class Losses:
    """Sums over the rows of a batch, weighted by row; `total` is what is minimised."""

    total: Tensor
    fused: Tensor
    image: Tensor
    text: Tensor


def curriculum_loss(
    output: FusionOutput, labels: Tensor, *, alpha: float, weights: Tensor, honest_text: Tensor
) -> Losses:
    """alpha CE(fused) + (1 - alpha) CE(image) + CE(text).

    The term of the text reaches the text tower only where the block lets it (see `PaperPrmf`), so it does not change
    the published method.

    Args:
        labels: (N,) class indices.
        weights: (N,) weight of each row, 1 without class balance.
        honest_text: (N,) 1 where the text belongs to the patch, 0 where it is missing or swapped.
    """

    def summed(logits: Tensor, weight: Tensor) -> Tensor:
        return (cross_entropy(logits.float(), labels, reduction="none") * weight).sum()

    fused = summed(output.fused, weights)
    image = summed(output.image, weights)
    text = summed(output.text, weights * honest_text)
    total = alpha * fused + (1 - alpha) * image + text
    if output.image_probe is not None:
        total = total + alpha * summed(output.image_probe, weights)
    return Losses(total=total, fused=fused.detach(), image=image.detach(), text=text.detach())


def class_weights(labels: Tensor, *, classes: int) -> Tensor:
    """Weight (C,) of each class such that all classes weigh the same and a row weighs 1 on average."""
    counts = torch.bincount(labels, minlength=classes).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), torch.zeros_like(counts))
