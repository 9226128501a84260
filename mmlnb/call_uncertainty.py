"""How much the probabilities of a slide depend on which part of it was seen."""

import numpy as np
from scipy.stats import bootstrap

from fusion.intervals import Interval, interval

# Neighbouring patches resemble one another, so they are drawn together, in squares of so many patches a side.
BLOCK = 4
RESAMPLES = 1000


def block_of(corners: np.ndarray, *, size_px: float) -> np.ndarray:
    """Number (N,) of the block that each patch with its top left `corners` (N, 2) and side `size_px` lies in."""
    squares = np.floor(corners / (BLOCK * size_px)).astype(np.int64)
    _, number = np.unique(squares, axis=0, return_inverse=True)
    return number.reshape(-1)


def call_intervals(probabilities: np.ndarray, tissue: np.ndarray, blocks: np.ndarray) -> list[Interval]:
    """95 % interval of each class's tissue-weighted mean, by bootstrap over the blocks of a slide.

    It tells how far the call depends on the part of the slide, not how often such calls are right.

    Args:
        probabilities: of the patches (N, classes).
        tissue: share of tissue in each (N,).
        blocks: block of each (N,), numbered from 0 (see `block_of`).

    Returns:
        An interval per class; None where there are fewer than two blocks.
    """
    count = int(blocks.max()) + 1
    if count < 2:
        return [None] * probabilities.shape[1]
    weight = np.bincount(blocks, weights=tissue, minlength=count)
    sums = np.stack([np.bincount(blocks, weights=tissue * column, minlength=count) for column in probabilities.T])

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        chosen = drawn.astype(int)
        with np.errstate(invalid="ignore"):
            return sums[:, chosen].sum(axis=-1) / weight[chosen].sum(axis=-1)  # (classes, B)

    found = bootstrap(
        (np.arange(count),),
        mean,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return [interval(values) for values in found.bootstrap_distribution]
