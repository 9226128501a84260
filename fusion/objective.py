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
    image_weight: float | None = None,
    gate_loss: float = 0.0,
    log_counts: Tensor | None = None,
) -> Losses:
    """alpha CE(fused) + image_weight CE(image) + CE(text) + gate_loss BCE(gate).

    The term of the text reaches the text tower only where the block lets it (see `PaperPrmf`), so it does not change
    the published method.

    Args:
        labels: (N,) class indices.
        weights: (N,) weight of each row, 1 without class balance.
        honest_text: (N,) 1 where the text belongs to the patch, 0 where it is missing or swapped.
        has_text: (N,) bool, false where the text is missing.
        image_weight: of the image's loss; None is 1 - alpha, as published (see `FusionBlock.image_loss_weight`).
        gate_loss: weight of teaching the gate whether the text helps; 0 in the published method.
        log_counts: (C,) what balanced softmax adds to the logits of every head (see `log_class_counts`).
    """

    def summed(logits: Tensor, weight: Tensor) -> Tensor:
        shifted = logits.float() if log_counts is None else logits.float() + log_counts
        return (cross_entropy(shifted, labels, reduction="none") * weight).sum()

    fused = summed(output.fused, weights)
    image = summed(output.image, weights)
    text = summed(output.text, weights * honest_text)
    total = alpha * fused + (1 - alpha if image_weight is None else image_weight) * image + text
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


def log_class_counts(labels: Tensor, *, classes: int) -> Tensor:
    """Logarithm (C,) of the number of rows of each class: the shift of balanced softmax (arXiv 2007.10740).

    A class without rows counts as one with a single row, so that the model still learns that it is unlikely.
    """
    return torch.bincount(labels, minlength=classes).clamp(min=1).float().log()
