"""Everything random about one epoch, drawn per row beforehand, so that ranks and resumed runs agree."""

from dataclasses import dataclass

import numpy as np
import torch

from fusion.augment import AugmentParameters, draw_parameters
from fusion.text_noise import RowTexts, TextNoise, draw_texts


@dataclass(frozen=True)
class EpochPlan:
    """One epoch over N training rows."""

    batches: list[np.ndarray]
    """Positions among the training rows of each step, over all processes."""
    texts: RowTexts
    augment: AugmentParameters


def plan_epoch(
    labels: np.ndarray, *, seed: int, epoch: int, batch_size: int, noise: TextNoise, stain_jitter: float
) -> EpochPlan:
    """Plan `epoch` (counted over the whole run) of rows with `labels` (N,); equal arguments give equal plans."""
    numbers = np.random.default_rng([seed, epoch])
    rows = len(labels)
    order = numbers.permutation(rows)
    texts = draw_texts(labels, noise, numbers)
    generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
    return EpochPlan(
        batches=_cut(order, batch_size),
        texts=texts,
        augment=draw_parameters(rows, stain_jitter=stain_jitter, generator=generator),
    )


def _cut(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of `batch_size`; a rest of less than half a batch joins the last one, so that no rank is left empty."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and 2 * len(batches[-1]) < batch_size:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches
