"""Percentile intervals by resampling patients, all resamples at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
_CHUNK = 256


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where it is not defined, as with a single patient."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "—"
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f}–{self.high:.3f})")


@dataclass(frozen=True)
class Resampler:
    """Draws patients with replacement; patches of one patient stay together, since they are alike."""

    patients: Sequence[str]
    """Patient of each row."""
    resamples: int
    seed: int

    def estimate(self, rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """Estimate `statistic` of the sums of `rows`.

        Args:
            rows: what each row adds, (N, K).
            statistic: maps sums (..., K) to figures (...); NaN where a figure is not defined.
        """
        value = float(statistic(rows.sum(axis=0, dtype=float)))
        names, group = np.unique(np.asarray(self.patients, dtype=str), return_inverse=True)
        if not np.isfinite(value) or len(names) < 2 or not self.resamples:
            return Estimate(value if np.isfinite(value) else None)
        sums = np.zeros((len(names), rows.shape[1]))
        np.add.at(sums, group, rows)
        rng = np.random.default_rng(self.seed)
        figures = []
        for start in range(0, self.resamples, _CHUNK):
            count = min(_CHUNK, self.resamples - start)
            times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
            figures.append(statistic(times @ sums))
        drawn = np.concatenate(figures)
        drawn = drawn[np.isfinite(drawn)]
        if not len(drawn):
            return Estimate(value)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, float(low), float(high))


def ratio(sums: np.ndarray) -> np.ndarray:
    """First over second of `sums` (..., 2); NaN where the second is 0."""
    return divide(sums[..., 0], sums[..., 1])


def divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Elementwise quotient; NaN where `below` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, np.asarray(above, dtype=float) / below, np.nan)
