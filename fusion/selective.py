"""Selective prediction: how often a model errs when it may leave out what it is least sure of."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix_at_thresholds

POINTS = 50


@dataclass(frozen=True)
class RiskPoint:
    """What is answered down to one confidence."""

    coverage: float
    """Share of the rows that are answered."""
    risk: float
    """Share of those that are wrong."""


@dataclass(frozen=True)
class RiskCoverage:
    """Risk–coverage curve (Geifman and El-Yaniv 2017), the surest rows first."""

    area: float | None
    """Mean risk over all coverages; rows of the same confidence are answered together."""
    points: list[RiskPoint]
    """At most `POINTS` of the curve, evenly over the coverage, the last one with all rows."""


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> RiskCoverage:
    """Curve of `probabilities` (N, C) against `labels` (N,), confidence being the highest probability; N may be 0."""
    if not len(labels):
        return RiskCoverage(area=None, points=[])
    right = probabilities.argmax(axis=1) == labels
    _, wrong, _, correct, _ = confusion_matrix_at_thresholds(right.astype(int), probabilities.max(axis=1), pos_label=1)
    answered = wrong + correct
    coverage, risk = answered / len(labels), wrong / answered
    wanted = np.searchsorted(coverage, np.linspace(1 / POINTS, 1, POINTS))
    return RiskCoverage(
        area=float(np.diff(coverage, prepend=0) @ risk),
        points=[
            RiskPoint(coverage=float(coverage[one]), risk=float(risk[one]))
            for one in np.unique(np.minimum(wanted, len(coverage) - 1))
        ],
    )
