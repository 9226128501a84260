"""Everything random about one epoch, drawn per row beforehand, so that ranks and resumed runs agree."""

from dataclasses import dataclass

import numpy as np
import torch

from fusion.augment import AugmentParameters, draw_parameters


@dataclass(frozen=True)
class EpochPlan:
    """One epoch over N training rows."""

    batches: list[np.ndarray]
    """Positions among the training rows of each step, over all processes."""
    text: np.ndarray
    """(N,) position whose text each row gets: mostly its own; -1 for none."""
    augment: AugmentParameters


def plan_epoch(
    rows: int, *, seed: int, epoch: int, batch_size: int, text_dropout: float, text_swap: float, stain_jitter: float
) -> EpochPlan:
    """Plan `epoch` (counted over the whole run); the same arguments give the same plan everywhere."""
    numbers = np.random.default_rng([seed, epoch])
    order = numbers.permutation(rows)
    text = np.arange(rows)
    fate = numbers.random(rows)
    swapped = (fate >= text_dropout) & (fate < text_dropout + text_swap)
    text[swapped] = numbers.integers(0, rows, size=int(swapped.sum()))
    text[fate < text_dropout] = -1
    generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
    return EpochPlan(
        batches=_cut(order, batch_size),
        text=text,
        augment=draw_parameters(rows, stain_jitter=stain_jitter, generator=generator),
    )


def _cut(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of `batch_size`; a rest of less than half a batch joins the last one, so that no rank is left empty."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and 2 * len(batches[-1]) < batch_size:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches
