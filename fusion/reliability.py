"""Whether a model is right as often as it is sure: the reliability diagram and the expected calibration error."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binned_statistic

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The rows whose highest probability lies in one bin."""

    confidence: float
    """Their mean highest probability."""
    accuracy: float
    share: float
    """Their share of all rows."""


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error (arXiv 1706.04599), with the bins that hold rows."""

    error: float | None
    bins: list[ReliabilityBin]


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Compare confidence and accuracy of `probabilities` (N, C) in bins of equal width; N may be 0."""
    if not len(labels):
        return Calibration(error=None, bins=[])
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    place = bin_of(confidence)
    accuracy, sure, rows = (
        binned_statistic(place, values, statistic=statistic, bins=np.arange(-0.5, BINS)).statistic
        for values, statistic in ((right, "mean"), (confidence, "mean"), (confidence, "count"))
    )
    share = rows / len(labels)
    return Calibration(
        error=float(np.nansum(share * np.abs(accuracy - sure))),
        bins=[
            ReliabilityBin(confidence=float(sure[one]), accuracy=float(accuracy[one]), share=float(share[one]))
            for one in np.flatnonzero(rows)
        ],
    )


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Index (N,) of the bin of each `confidence` (N,); an edge belongs to the bin above it, 1 to the last."""
    return np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1])
