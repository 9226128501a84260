"""Metrics, also where the rows do not define them."""

import warnings

import numpy as np
import pytest

from fusion.calibration import fit_temperature
from fusion.metrics import balanced_accuracy, measure


def one_hot(classes: list[int], *, sure: float = 0.8) -> np.ndarray:
    table = np.full((len(classes), 3), (1 - sure) / 2, dtype=np.float32)
    table[np.arange(len(classes)), classes] = sure
    return table


def test_known_predictions_give_known_figures() -> None:
    metrics = measure(np.array([0, 0, 0, 0, 1, 1, 2, 2]), one_hot([0, 0, 0, 1, 1, 1, 2, 0]))
    assert metrics.accuracy == pytest.approx(6 / 8)
    assert metrics.balanced_accuracy == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert metrics.confusion == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert metrics.precision == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    # Weighted: 1 - sum(w o) / sum(w e), with squared distances of the classes as weights.
    assert metrics.kappa == pytest.approx(1 - (1 * 1 + 1 * 4) / ((4 * 3 + 2 * 4 + 2 * 3 + 2 * 1 + 4 * (4 + 8)) / 8))


def test_a_class_that_does_not_occur_leaves_the_others_measured() -> None:
    metrics = measure(np.array([0, 0, 1, 1]), one_hot([0, 0, 1, 2]))
    assert metrics.balanced_accuracy == pytest.approx(0.75)
    assert metrics.auroc is not None and metrics.confusion[2] == [0, 0, 0]


def test_a_single_class_gives_null_where_nothing_is_defined() -> None:
    metrics = measure(np.array([1, 1]), one_hot([1, 1]))
    assert metrics.accuracy == 1 and metrics.auroc is None and metrics.kappa is None


def test_no_rows_give_nulls_and_not_an_error() -> None:
    metrics = measure(np.zeros(0, int), np.zeros((0, 3), np.float32))
    assert metrics.patches == 0 and metrics.accuracy is None and metrics.auroc is None


def test_temperature_undoes_overconfidence() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3)) * 1.5
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in chances])
    assert fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.1)
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.1)


def test_temperature_without_rows_is_one() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score

    random = np.random.default_rng(0)
    for rows in (1, 5, 200):
        labels, predicted = random.integers(0, 4, rows), random.integers(0, 3, rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = balanced_accuracy_score(labels, predicted)
        assert balanced_accuracy(labels, predicted) == pytest.approx(expected)
