"""Metrics of a classifier; what is not defined for the rows at hand is None."""

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)


@dataclass(frozen=True)
class Metrics:
    """Metrics over N patches; averages run over the classes that occur among them."""

    patches: int
    accuracy: float | None
    balanced_accuracy: float | None
    kappa: float | None
    """Cohen's kappa with quadratic weights, classes in the taxonomy's order."""
    weighted_f1: float | None
    macro_f1: float | None
    precision: float | None
    recall: float | None
    auroc: float | None
    """One class against the rest, averaged."""
    log_loss: float | None
    confusion: list[list[int]]
    """Rows are true classes, columns predicted ones, both in the taxonomy's order."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def measure(labels: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """Measure `probabilities` (N, C) against `labels` (N,), class indices."""
    classes = np.arange(probabilities.shape[1])
    if not len(labels):
        nothing = dict.fromkeys(
            (
                "accuracy",
                "balanced_accuracy",
                "kappa",
                "weighted_f1",
                "macro_f1",
                "precision",
                "recall",
                "auroc",
                "log_loss",
            )
        )
        return Metrics(patches=0, confusion=np.zeros((len(classes), len(classes)), int).tolist(), **nothing)
    predicted = probabilities.argmax(axis=1)
    exact = probabilities.astype(float)
    exact /= exact.sum(axis=1, keepdims=True)
    present = np.unique(labels)
    macro: dict[str, Any] = {"labels": present, "average": "macro", "zero_division": 0}
    with warnings.catch_warnings():
        # Kappa is 0 / 0 where truth and prediction are one and the same class; that becomes None below.
        warnings.simplefilter("ignore")
        kappa = cohen_kappa_score(labels, predicted, labels=classes, weights="quadratic")
    return Metrics(
        patches=len(labels),
        accuracy=float(accuracy_score(labels, predicted)),
        balanced_accuracy=balanced_accuracy(labels, predicted),
        kappa=_defined(kappa),
        weighted_f1=float(f1_score(labels, predicted, labels=present, average="weighted", zero_division=0)),
        macro_f1=float(f1_score(labels, predicted, **macro)),
        precision=float(precision_score(labels, predicted, **macro)),
        recall=float(recall_score(labels, predicted, **macro)),
        auroc=_auroc(labels, probabilities),
        log_loss=float(log_loss(labels, exact, labels=classes)),
        confusion=confusion_matrix(labels, predicted, labels=classes).tolist(),
    )


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall over the classes that occur in `labels`."""
    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error (arXiv 1706.04599), over bins of equal width."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _auroc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    present = np.unique(labels)
    if len(present) < 2:
        return None
    return float(np.mean([roc_auc_score(labels == one, probabilities[:, one]) for one in present]))


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
