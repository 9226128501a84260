"""Metrics, also where the rows do not define them."""

import warnings

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, classification_report, cohen_kappa_score, roc_auc_score

from fusion.calibration import fit_temperature
from fusion.metrics import balanced_accuracy, measure
from fusion.per_class import per_class
from fusion.reliability import calibration
from fusion.selective import POINTS, risk_coverage


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [[], [1, 1, 1], [0, 0, 2, 2, 2, 0]], ids=["none", "one class", "a class is missing"])
@pytest.mark.parametrize("tied", [False, True])
def test_whatever_is_not_defined_is_none_without_a_warning(labels: list[int], tied: bool) -> None:
    truth = np.array(labels, dtype=int)
    probabilities = (
        np.full((len(truth), 3), 1 / 3) if tied else np.random.default_rng(1).dirichlet(np.ones(3), len(truth))
    )
    metrics, classes = measure(truth, probabilities), per_class(truth, probabilities)
    for one, found in enumerate(classes):
        assert found.support == (truth == one).sum()
        assert (found.auroc is None) == (found.auprc is None) == (found.support in (0, len(truth)))
        assert (found.recall is None) == (found.support == 0)
    assert (metrics.auroc is None) == (metrics.auprc is None) == (len(set(labels)) < 2)
    curve, reliability = risk_coverage(truth, probabilities), calibration(truth, probabilities)
    assert (curve.area is None) == (reliability.error is None) == (not labels)
    if labels:
        assert curve.points[-1].coverage == 1
        assert curve.points[-1].risk == pytest.approx(1 - metrics.accuracy)  # type: ignore[operator]
    if labels and tied:
        assert curve.area == pytest.approx(1 - metrics.accuracy)  # type: ignore[operator]
        assert metrics.auroc in (None, 0.5)
        assert len(curve.points) == len(reliability.bins) == 1


def test_every_class_is_measured_as_scikit_learn_does() -> None:
    labels, probabilities = drawn(300)
    report = classification_report(labels, probabilities.argmax(1), output_dict=True, zero_division=0)
    classes, metrics = per_class(labels, probabilities), measure(labels, probabilities)
    for one, found in enumerate(classes):
        expected = report[str(one)]
        assert (found.precision, found.recall, found.f1, found.support) == pytest.approx(tuple(expected.values()))
        assert found.auroc == pytest.approx(roc_auc_score(labels == one, probabilities[:, one]))
        assert found.auprc == pytest.approx(average_precision_score(labels == one, probabilities[:, one]))
    assert metrics.auroc == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert metrics.auprc == pytest.approx(average_precision_score(np.eye(3)[labels], probabilities))
    assert metrics.kappa == pytest.approx(cohen_kappa_score(labels, probabilities.argmax(1), weights="quadratic"))


def test_reliability_bins_are_those_of_scikit_learn_and_their_gaps_make_the_error() -> None:
    labels, probabilities = drawn(500)
    found = calibration(labels, probabilities)
    right = probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(1), n_bins=15)
    assert [one.accuracy for one in found.bins] == pytest.approx(accuracy.tolist())
    assert [one.confidence for one in found.bins] == pytest.approx(confidence.tolist())
    assert sum(one.share for one in found.bins) == pytest.approx(1)
    assert found.error == pytest.approx(sum(one.share * abs(one.accuracy - one.confidence) for one in found.bins))


def test_a_model_that_is_as_sure_as_it_is_right_has_hardly_any_calibration_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 20_000)
    labels = (random.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    honest, boastful = (calibration(labels, one).error for one in (probabilities, np.eye(3)[probabilities.argmax(1)]))
    assert honest is not None and boastful is not None
    assert honest < 0.02
    assert boastful > 0.3


def test_risk_is_that_of_the_surest_rows_at_every_coverage() -> None:
    labels, probabilities = drawn(200)
    order = np.argsort(-probabilities.max(1))
    wrong = (probabilities.argmax(1) != labels)[order]
    risks = wrong.cumsum() / np.arange(1, 201)
    found = risk_coverage(labels, probabilities)
    assert found.area == pytest.approx(risks.mean())
    assert len(found.points) == POINTS
    for point in found.points:
        assert point.risk == pytest.approx(risks[round(point.coverage * 200) - 1])


def test_rows_of_the_same_confidence_are_answered_together() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    found = risk_coverage(np.array([0, 0, 0, 1]), probabilities)
    assert [(point.coverage, point.risk) for point in found.points] == [(0.75, 0), (1, 0.25)]
    assert found.area == pytest.approx(0.75 * 0 + 0.25 * 0.25)


def test_leaving_out_the_unsure_helps_only_a_model_that_is_unsure_where_it_errs() -> None:
    labels, sure = np.zeros(100, dtype=int), np.linspace(0.99, 0.51, 100)
    right = np.stack([sure, 1 - sure], axis=1)
    errs_unsure, errs_sure = right.copy(), right.copy()
    errs_unsure[50:] = errs_unsure[50:, ::-1]
    errs_sure[:50] = errs_sure[:50, ::-1]
    low, high = risk_coverage(labels, errs_unsure).area, risk_coverage(labels, errs_sure).area
    assert low is not None and high is not None
    assert low < 0.2
    assert high > 0.8


def drawn(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that are right somewhat more often than chance."""
    random = np.random.default_rng(rows)
    labels = random.integers(0, 3, rows)
    probabilities = random.dirichlet(np.ones(3), rows) + 0.3 * np.eye(3)[labels]
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


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
