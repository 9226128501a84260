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
)

from fusion.per_class import defined, one_against_rest


@dataclass(frozen=True)
class Metrics:
    """Metrics over N patches, or slides; averages run over the classes that occur among them."""

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
    auprc: float | None
    """Average precision of one class against the rest, averaged."""
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
                "auprc",
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
    areas = one_against_rest(labels, probabilities)
    return Metrics(
        patches=len(labels),
        accuracy=float(accuracy_score(labels, predicted)),
        balanced_accuracy=balanced_accuracy(labels, predicted),
        kappa=defined(kappa),
        weighted_f1=float(f1_score(labels, predicted, labels=present, average="weighted", zero_division=0)),
        macro_f1=float(f1_score(labels, predicted, **macro)),
        precision=float(precision_score(labels, predicted, **macro)),
        recall=float(recall_score(labels, predicted, **macro)),
        auroc=_mean([auroc for auroc, _ in areas]),
        auprc=_mean([auprc for _, auprc in areas]),
        log_loss=float(log_loss(labels, exact, labels=classes)),
        confusion=confusion_matrix(labels, predicted, labels=classes).tolist(),
    )


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall over the classes that occur in `labels`."""
    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
