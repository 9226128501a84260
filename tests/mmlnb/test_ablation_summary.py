"""Means over seeds, with intervals over patients and seeds that are the same for every arm."""

import numpy as np
import pytest
from sklearn.metrics import recall_score

from fusion.classified import Classified
from mmlnb.ablation_summary import Resamples, summarise

PATIENTS, EACH = 12, 10


def classified(seed: int, *, right: float) -> Classified:
    """Rows of which a share is `right`, drawn anew with every seed."""
    labels = np.repeat(np.arange(PATIENTS) % 3, EACH)
    rng = np.random.default_rng(seed)
    called = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % 3)
    return Classified(
        labels=labels,
        probabilities=np.eye(3)[called] * 0.8 + 0.2 / 3,
        owners=np.repeat([f"P{number}" for number in range(PATIENTS)], EACH).astype(object),
    )


def test_mean_and_spread_are_those_over_the_seeds() -> None:
    results = {seed: classified(seed, right=0.7) for seed in (1, 2, 3)}
    summary = summarise(Resamples(3, seed=0).draw(results), against=None)
    each = [recall_score(one.labels, one.probabilities.argmax(axis=1), average="macro") for one in results.values()]
    measured = summary.measures["balanced_accuracy"]
    assert measured.mean == pytest.approx(np.mean(each))
    assert measured.spread == pytest.approx(np.std(each, ddof=1))
    assert measured.interval is not None
    assert measured.interval[0] < measured.mean < measured.interval[1]
    assert (measured.difference, measured.difference_interval, measured.higher) == (None, None, None)
    assert (summary.rows, summary.patients, summary.remark) == (120, 12, None)


def test_one_seed_has_no_spread_and_the_interval_of_its_patients() -> None:
    from fusion.intervals import intervals

    results = {7: classified(7, right=0.7)}
    summary = summarise(Resamples(1, seed=0).draw(results), against=None)
    assert summary.measures["accuracy"].spread is None
    assert summary.measures["accuracy"].interval == intervals(results[7], seed=0).measures["accuracy"]


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = {seed: classified(1, right=0.7) for seed in (1, 2, 3)}
    apart = {seed: classified(1, right=right) for seed, right in ((1, 0.4), (2, 0.7), (3, 1.0))}
    draws = Resamples(3, seed=0)

    def width(results: dict[int, Classified]) -> float:
        found = summarise(draws.draw(results), against=None).measures["accuracy"].interval
        assert found is not None
        return found[1] - found[0]

    assert width(apart) > 1.5 * width(alike)


def test_differences_are_paired_so_that_an_arm_differs_from_itself_by_nothing() -> None:
    image = {seed: classified(seed, right=0.6) for seed in (1, 2)}
    better = {seed: classified(seed, right=0.9) for seed in (1, 2)}
    draws = Resamples(2, seed=0)
    against = draws.draw(image)
    same = summarise(draws.draw(image), against=against).measures["accuracy"]
    assert (same.difference, same.difference_interval, same.higher) == (0, (0, 0), 0)
    measures = summarise(draws.draw(better), against=against).measures
    gained = measures["accuracy"]
    assert gained.difference == pytest.approx(gained.mean - against.mean("accuracy"))  # type: ignore[operator]
    assert gained.difference_interval is not None
    assert gained.difference_interval[0] > 0
    assert gained.higher == 1
    assert not measures["log_loss"].higher_is_better
    assert measures["log_loss"].difference is not None
    assert measures["log_loss"].difference < 0


def test_what_a_single_class_does_not_define_is_none() -> None:
    rows = classified(1, right=0.9)
    only = {1: rows.some(rows.labels == 0), 2: rows.some(rows.labels == 0)}
    summary = summarise(Resamples(2, seed=0).draw(only), against=None)
    assert (summary.measures["auroc"].mean, summary.measures["auroc"].interval) == (None, None)
    assert summary.measures["accuracy"].mean is not None
