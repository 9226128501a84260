"""Everything random about one epoch, drawn per row beforehand, so that ranks and resumed runs agree."""

from dataclasses import dataclass

import numpy as np
import torch

from fusion.augment import AugmentParameters, draw_parameters
from fusion.text_noise import RowTexts, TextNoise, draw_texts


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of N draws, as many as there are training rows."""

    rows: np.ndarray
    """(N,) position of each draw among the training rows."""
    batches: list[np.ndarray]
    """Draws of each step, over all processes."""
    texts: RowTexts
    """Text of each draw; its `source` is a draw, too."""
    augment: AugmentParameters
    sentence_seeds: np.ndarray
    """(N,) of the order of the sentences of each draw's text."""


def plan_epoch(
    labels: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    noise: TextNoise,
    stain_jitter: float,
    sampler: bool = False,
) -> EpochPlan:
    """Plan `epoch` (counted over the whole run) of rows with `labels` (N,); equal arguments give equal plans.

    Every row is drawn once, or, with `sampler`, with replacement and all classes equally often.
    """
    numbers = np.random.default_rng([seed, epoch])
    count = len(labels)
    rows, order = np.arange(count), numbers.permutation(count)
    if sampler:
        rows = _draw_balanced(labels, numbers)
    texts = draw_texts(labels[rows], noise, numbers)
    generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
    return EpochPlan(
        rows=rows,
        batches=_cut(order, batch_size),
        texts=texts,
        augment=draw_parameters(count, stain_jitter=stain_jitter, generator=generator),
        sentence_seeds=numbers.integers(2**31, size=count),
    )


def _draw_balanced(labels: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """As many rows as `labels` (N,) has, with replacement; every class that has rows is as likely as the others."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return numbers.choice(len(labels), size=len(labels), p=1 / (len(counts) * counts[index]))


def _cut(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Batches of `batch_size`; a rest of less than half a batch joins the last one, so that no rank is left empty."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and 2 * len(batches[-1]) < batch_size:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches
