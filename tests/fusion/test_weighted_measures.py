"""Measures under many weightings at once are those of scikit-learn on rows that are repeated as often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.assessment import main_measures
from fusion.classified import Classified
from fusion.weighted_measures import HIGHER_IS_BETTER, WeightedMeasures


def repeat(rows: Classified, weights: np.ndarray) -> Classified:
    """Every row as often as its patient counts."""
    patient = np.unique(rows.owners, return_inverse=True)[1]
    return rows.some(np.repeat(np.arange(len(rows)), weights[patient]))


def check(rows: Classified, weights: np.ndarray) -> None:
    found = WeightedMeasures(rows)(weights)
    assert list(found) == list(HIGHER_IS_BETTER)
    for place, some in enumerate(weights):
        expected = main_measures(repeat(rows, some))
        for name, value in expected.items():
            assert found[name][place] == pytest.approx(np.nan if value is None else value, nan_ok=True), name


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 40),
    classes=st.integers(2, 4),
    present=st.integers(1, 4),
    patients=st.integers(1, 8),
    steps=st.sampled_from([1, 3, 1000]),
)
def test_any_weighting_of_any_rows_gives_what_scikit_learn_does(
    seed: int, rows: int, classes: int, present: int, patients: int, steps: int
) -> None:
    random = np.random.default_rng(seed)
    # Few steps make ties, within a row and between rows; few classes present leave one or none to tell apart.
    scores = random.integers(1, steps + 1, (rows, classes)).astype(np.float32)
    classified = Classified(
        labels=random.integers(0, min(present, classes), rows),
        probabilities=scores / scores.sum(axis=1, keepdims=True),
        owners=np.array([f"patient {one}" for one in random.integers(0, patients, rows)], dtype=object),
    )
    weights = random.integers(0, 3, (4, classified.patients))
    check(classified, weights[weights.any(axis=1)])


def test_weights_of_one_give_the_measures_themselves() -> None:
    random = np.random.default_rng(0)
    rows = Classified(
        labels=random.integers(0, 3, 500),
        probabilities=random.dirichlet(np.ones(3), 500).astype(np.float32),
        owners=random.integers(0, 20, 500).astype(str).astype(object),
    )
    check(rows, np.ones((1, 20), dtype=int))
