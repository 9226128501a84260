"""Each class against the rest: precision, recall, F1 and the areas under its two curves."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest; what its rows do not define is None."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Rows of the class."""
    auroc: float | None
    auprc: float | None
    """Average precision."""


def per_class(labels: np.ndarray, probabilities: np.ndarray) -> list[ClassMetrics]:
    """Measure every class of `probabilities` (N, C) against `labels` (N,), class indices; N may be 0."""
    classes = np.arange(probabilities.shape[1])
    if not len(labels):
        return [ClassMetrics(None, None, None, 0, None, None) for _ in classes]
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=classes, zero_division=np.nan
    )
    areas = one_against_rest(labels, probabilities)
    return [
        ClassMetrics(defined(precision[one]), defined(recall[one]), defined(f1[one]), int(support[one]), *areas[one])
        for one in classes
    ]


def one_against_rest(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[float | None, float | None]]:
    """AUROC and average precision of every class of `probabilities` (N, C), None where it or the rest has no row."""
    areas: list[tuple[float | None, float | None]] = []
    for one in range(probabilities.shape[1]):
        rows, score = labels == one, probabilities[:, one]
        both = rows.any() and not rows.all()
        areas.append(
            (float(roc_auc_score(rows, score)), float(average_precision_score(rows, score))) if both else (None, None)
        )
    return areas


def defined(value: float) -> float | None:
    """`value`, or None where it is NaN."""
    return float(value) if np.isfinite(value) else None
