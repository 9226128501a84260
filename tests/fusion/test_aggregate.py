"""A slide's call is the mean of its patches, those with more tissue counting more."""

import numpy as np
import pytest

from fusion.aggregate import aggregate


def test_tissue_weighs_the_vote_and_the_plain_mean_is_kept() -> None:
    call = aggregate(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([1.0, 0.2, 0.2]))
    assert call.tissue_weighted == pytest.approx([1 / 1.4, 0.4 / 1.4])
    assert call.mean == pytest.approx([1 / 3, 2 / 3])
    assert call.called == 0


def test_the_hard_vote_counts_calls_and_not_how_sure_they_are() -> None:
    call = aggregate(np.array([[0.9, 0.1], [0.45, 0.55], [0.45, 0.55]]), np.ones(3))
    assert call.hard_vote == pytest.approx([1 / 3, 2 / 3])
    assert call.mean.argmax() == 0


def test_probabilities_still_add_up_to_one() -> None:
    random = np.random.default_rng(0)
    call = aggregate(random.dirichlet(np.ones(3), 50).astype(np.float32), random.random(50))
    assert call.tissue_weighted.sum() == pytest.approx(1, abs=1e-6)
    assert call.mean.sum() == pytest.approx(1, abs=1e-6)
    assert call.hard_vote.sum() == pytest.approx(1)


def test_no_tissue_is_no_call() -> None:
    with pytest.raises(ValueError, match="at least one patch with tissue"):
        aggregate(np.ones((2, 3)) / 3, np.zeros(2))
