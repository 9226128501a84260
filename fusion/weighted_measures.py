"""The main measures of the same rows under many weightings of their patients at once, as a bootstrap needs them.

scikit-learn takes one weighting per call, with which a thousand resamples of a cohort take minutes. Here the same
measures come from what is summed once per patient; the tests hold every one of them against scikit-learn.
"""

import numpy as np

from fusion.classified import Classified
from fusion.reliability import BINS, bin_of

HIGHER_IS_BETTER = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "weighted_f1": True,
    "kappa": True,
    "auroc": True,
    "auprc": True,
    "log_loss": False,
    "calibration_error": False,
    "risk_coverage_area": False,
}
"""The main measures, those that have an interval."""

Steps = tuple[np.ndarray, np.ndarray]
"""Down a ranking, positive rows and all rows up to each of K thresholds, under B weightings: (B, K) each."""


class WeightedMeasures:
    """Measures the same N > 0 rows, of P patients, under any whole weights of the patients."""

    def __init__(self, rows: Classified) -> None:
        names, self._patient = np.unique(rows.owners, return_inverse=True)
        self.patients = len(names)
        self._classes = rows.probabilities.shape[1]
        predicted = rows.probabilities.argmax(axis=1)
        confidence = rows.probabilities.max(axis=1).astype(float)
        right = predicted == rows.labels
        self._confusion = self._per_patient(rows.labels * self._classes + predicted, self._classes**2)
        self._gaps = self._per_patient(bin_of(confidence), BINS, right - confidence)
        self._losses = self._per_patient(np.zeros(len(rows), dtype=int), 1, _log_losses(rows))
        self._each_class = [
            _Ranking(rows.probabilities[:, one], rows.labels == one, self._patient) for one in range(self._classes)
        ]
        self._surest = _Ranking(confidence, right, self._patient)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every main measure (B,), NaN where it is not defined, under `weights` (B, P): how often each patient counts.

        The patients are in order of their names; each of the B weightings must leave some patient.
        """
        weights = weights.astype(float)
        confusion = (weights @ self._confusion).reshape(-1, self._classes, self._classes)  # (B, truth, prediction)
        rows = confusion.sum(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            every = (ranking.steps(weights) for ranking in self._each_class)
            areas = [(_auroc(steps), _average_precision(steps)) for steps in every]
            return {
                **_of_confusion(confusion),
                "auroc": _mean_of_known(np.stack([auroc for auroc, _ in areas], axis=1)),
                "auprc": _mean_of_known(np.stack([auprc for _, auprc in areas], axis=1)),
                "log_loss": (weights @ self._losses)[:, 0] / rows,
                "calibration_error": np.abs(weights @ self._gaps).sum(axis=1) / rows,
                "risk_coverage_area": _risk_coverage_area(self._surest.steps(weights)),
            }

    def _per_patient(self, place: np.ndarray, places: int, values: np.ndarray | None = None) -> np.ndarray:
        """Sum `values` (N,), or count the rows, of each patient at each `place` (N,): (P, places)."""
        table = np.bincount(self._patient * places + place, weights=values, minlength=self.patients * places)
        return table.reshape(self.patients, places).astype(float)


class _Ranking:
    """N rows in order of falling score; a threshold lies behind each run of equal scores."""

    def __init__(self, score: np.ndarray, positive: np.ndarray, patient: np.ndarray) -> None:
        order = np.argsort(-score, kind="stable")
        self._patient, self._positive = patient[order], positive[order].astype(float)
        self._ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))

    def steps(self, weights: np.ndarray) -> Steps:
        """Count under `weights` (B, P)."""
        every = weights[:, self._patient]  # (B, N)
        positive = np.cumsum(every * self._positive, axis=1)[:, self._ends]
        return positive, np.cumsum(every, axis=1)[:, self._ends]


def _of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Measures (B,) of confusion matrices (B, truth, prediction); averages run over the classes that occur."""
    right = np.diagonal(confusion, axis1=1, axis2=2)  # (B, C)
    true, called = confusion.sum(axis=2), confusion.sum(axis=1)
    rows = true.sum(axis=1)
    f1 = np.where(true > 0, 2 * right / (true + called), np.nan)
    places = np.arange(confusion.shape[1])
    cost = (places[:, None] - places) ** 2
    chance = true[:, :, None] * called[:, None, :] / rows[:, None, None]
    return {
        "accuracy": right.sum(axis=1) / rows,
        "balanced_accuracy": _mean_of_known(right / true),
        "macro_f1": _mean_of_known(f1),
        "weighted_f1": np.nansum(f1 * true, axis=1) / rows,
        "kappa": 1 - (cost * confusion).sum(axis=(1, 2)) / (cost * chance).sum(axis=(1, 2)),
    }


def _auroc(steps: Steps) -> np.ndarray:
    """Area (B,) under the ROC curve by trapezoids; NaN where either side has no row."""
    positive, every = steps
    negative = every - positive
    below = (np.diff(negative, axis=1) * (positive[:, 1:] + positive[:, :-1])).sum(axis=1) / 2
    below += negative[:, 0] * positive[:, 0] / 2
    return below / (positive[:, -1] * negative[:, -1])


def _average_precision(steps: Steps) -> np.ndarray:
    """Average precision (B,); NaN where either side has no row."""
    positive, every = steps
    gained = np.diff(positive, axis=1, prepend=0)
    area = (gained * positive / np.maximum(every, 1)).sum(axis=1) / positive[:, -1]
    return np.where(positive[:, -1] < every[:, -1], area, np.nan)


def _risk_coverage_area(steps: Steps) -> np.ndarray:
    """Mean risk (B,) over all coverages; positive are the rows that are right."""
    right, every = steps
    answered = np.diff(every, axis=1, prepend=0)
    return (answered * (every - right) / np.maximum(every, 1)).sum(axis=1) / every[:, -1]


def _log_losses(rows: Classified) -> np.ndarray:
    """Minus the logarithm of what each row gives its class (N,), kept finite as scikit-learn does."""
    exact = rows.probabilities.astype(float)
    exact /= exact.sum(axis=1, keepdims=True)
    smallest = np.finfo(float).eps
    return -np.log(np.clip(exact[np.arange(len(rows)), rows.labels], smallest, 1 - smallest))


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean (B,) over the classes of `values` (B, C) that are not NaN; NaN where all are."""
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
