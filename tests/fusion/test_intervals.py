"""Intervals come from drawing patients, not patches, and hold what they promise."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from fusion.classified import Classified
from fusion.intervals import RESAMPLES, Intervals, interval, intervals, resample
from fusion.weighted_measures import HIGHER_IS_BETTER


def cohort(patients: int, *, patches: int = 1, skill: float = 0.7, seed: int = 0, spread: float = 0.0) -> Classified:
    """Two classes; every patient is called right with a probability of its own, `skill` on average."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(patients) % 2, patches)
    chance = np.repeat(skill + spread * random.choice([-1, 1], patients), patches)
    called = np.where(random.random(patients * patches) < chance, labels, 1 - labels)
    sure = random.uniform(0.5, 1, patients * patches)
    probabilities = np.where(called[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    return Classified(
        labels, probabilities, np.repeat([f"{one:04d}" for one in range(patients)], patches).astype(object)
    )


def width(found: Intervals, name: str = "accuracy") -> float:
    ends = found.measures[name]
    assert ends is not None
    return ends[1] - ends[0]


def test_the_interval_of_the_accuracy_is_that_of_scipy_over_patients() -> None:
    rows = cohort(30, patches=4)
    per_patient = (rows.probabilities.argmax(1) == rows.labels).reshape(30, 4).mean(axis=1)
    expected = bootstrap(
        (per_patient,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert intervals(rows, seed=5).measures["accuracy"] == pytest.approx((expected.low, expected.high))


def test_patches_of_one_patient_that_are_all_alike_add_no_certainty() -> None:
    rows = cohort(20)
    copies = rows.some(np.repeat(np.arange(20), 50))
    once, often = intervals(rows, seed=0), intervals(copies, seed=0)
    for name in HIGHER_IS_BETTER:
        assert often.measures[name] == pytest.approx(once.measures[name]), name
    alone = Classified(copies.labels, copies.probabilities, np.arange(1000).astype(str).astype(object))
    assert width(intervals(alone, seed=0)) < width(often) / 4


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = [intervals(cohort(40, patches=5, spread=0.2, seed=seed), seed=0).measures["accuracy"] for seed in range(60)]
    assert np.mean([ends is not None and ends[0] <= 0.7 <= ends[1] for ends in held]) >= 0.85


def test_intervals_shrink_with_patients_and_hold_the_measure_itself() -> None:
    few, many = intervals(cohort(25), seed=0), intervals(cohort(400), seed=0)
    for name in HIGHER_IS_BETTER:
        assert width(many, name) < width(few, name) / 2, name
    ends, rows = many.measures["accuracy"], cohort(400)
    assert ends is not None
    assert ends[0] < (rows.probabilities.argmax(1) == rows.labels).mean() < ends[1]


def test_the_seed_decides_the_draw_and_two_results_of_the_same_patients_are_drawn_alike() -> None:
    rows = cohort(20, patches=3)
    first, again, other = (resample(rows, seed=seed)["accuracy"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    opposite = Classified(rows.labels, rows.probabilities[:, ::-1], rows.owners)
    assert resample(opposite, seed=1)["accuracy"] == pytest.approx(1 - first)


@pytest.mark.filterwarnings("error")
def test_few_patients_are_remarked_upon_and_one_has_no_interval() -> None:
    assert intervals(cohort(30), seed=0).remark is None
    few = intervals(cohort(4, patches=9), seed=0)
    assert few.remark is not None
    assert "only 4 patients" in few.remark
    assert few.measures["accuracy"] is not None
    one, none = intervals(cohort(1, patches=9), seed=0), intervals(cohort(0), seed=0)
    assert set(one.measures.values()) == set(none.measures.values()) == {None}
    assert one.remark == none.remark == "no intervals: fewer than 2 patients"


@pytest.mark.filterwarnings("error")
def test_draws_without_a_second_class_are_left_out_and_counted() -> None:
    rows = cohort(30).some(np.array([*range(0, 30, 2), 1]))  # A single patient has the second class.
    found = intervals(rows, seed=0)
    assert found.remark is not None
    assert "auroc is not defined in" in found.remark
    assert found.measures["auroc"] is not None
    only = rows.some(rows.labels == 0)
    assert intervals(only, seed=0).measures["auroc"] is None
    assert intervals(only, seed=0).measures["accuracy"] is not None


def test_the_interval_is_the_middle_of_the_draws() -> None:
    assert interval(np.append(np.linspace(0, 1, 1001), np.nan)) == pytest.approx((0.025, 0.975))
    assert interval(np.array([np.nan])) is None
