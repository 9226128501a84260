"""The loss of one batch under the curriculum."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cross_entropy

from fusion.block import FusionOutput


@dataclass(frozen=True)
class Losses:
    """Sums over the rows of a batch, weighted by row; `total` is what is minimised."""

    total: Tensor
    fused: Tensor
    image: Tensor
    text: Tensor


def curriculum_loss(
    output: FusionOutput,
    labels: Tensor,
    *,
    alpha: float,
    weights: Tensor,
    honest_text: Tensor,
    has_text: Tensor,
    keeps_image_loss: bool = False,
    gate_loss: float = 0.0,
) -> Losses:
    """alpha CE(fused) + (1 - alpha) CE(image) + CE(text) + gate_loss BCE(gate).

    The term of the text reaches the text tower only where the block lets it (see `PaperPrmf`), so it does not change
    the published method.

    Args:
        labels: (N,) class indices.
        weights: (N,) weight of each row, 1 without class balance.
        honest_text: (N,) 1 where the text belongs to the patch, 0 where it is missing or swapped.
        has_text: (N,) bool, false where the text is missing.
        keeps_image_loss: CE(image) instead of (1 - alpha) CE(image).
        gate_loss: weight of teaching the gate whether the text helps; 0 in the published method.
    """

    def summed(logits: Tensor, weight: Tensor) -> Tensor:
        return (cross_entropy(logits.float(), labels, reduction="none") * weight).sum()

    fused = summed(output.fused, weights)
    image = summed(output.image, weights)
    text = summed(output.text, weights * honest_text)
    total = alpha * fused + (1.0 if keeps_image_loss else 1 - alpha) * image + text
    if gate_loss:
        total = total + gate_loss * (_gate_losses(output, labels) * weights * has_text).sum()
    return Losses(total=total, fused=fused.detach(), image=image.detach(), text=text.detach())


def _gate_losses(output: FusionOutput, labels: Tensor) -> Tensor:
    """Cross-entropy (N,) of the gate against how much likelier the truth is to the text than to the image.

    Without it a gate that closes while the text tower is still untrained seldom opens again.
    """
    true = labels.unsqueeze(1)
    text, image = (
        logits.detach().float().softmax(dim=1).gather(1, true).squeeze(1) for logits in (output.text, output.image)
    )
    gate = output.gate.float().clamp(1e-6, 1 - 1e-6)
    return binary_cross_entropy(gate, text / (text + image), reduction="none")


def class_weights(labels: Tensor, *, classes: int) -> Tensor:
    """Weight (C,) of each class such that all classes weigh the same and a row weighs 1 on average."""
    counts = torch.bincount(labels, minlength=classes).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), torch.zeros_like(counts))
