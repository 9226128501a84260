"""Captions go to patches that are uncertain, of weight, or unlike the others, and always to the same ones."""

from typing import get_args

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmlnb.caption_budget import StrategyName
from mmlnb.caption_choice import STRATEGIES, Candidates, choose, k_centre, main_directions, nearest_of

KINDS = 6
SIZES = (400, 60, 20, 10, 5, 5)


def planted(*, seed: int = 0, width: int = 48) -> tuple[Candidates, np.ndarray]:
    """Patches of six kinds, most of them of the first, and the kind of each."""
    random = np.random.default_rng(seed)
    kinds = random.permutation(np.repeat(np.arange(KINDS), SIZES))
    centres = random.normal(size=(KINDS, width))
    features = (centres[kinds] + 0.05 * random.normal(size=(len(kinds), width))).astype(np.float16)
    probabilities = random.dirichlet((4, 2, 1), len(kinds)).astype(np.float32)
    return Candidates(features=features, probabilities=probabilities, tissue=random.uniform(0.5, 1, len(kinds))), kinds


def test_every_strategy_has_a_name_that_can_be_set() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_choice_is_the_same_again_holds_nothing_twice_and_begins_as_a_smaller_one(name: StrategyName) -> None:
    candidates, _ = planted()
    again, _ = planted()
    chosen = choose(name, candidates, 40)
    assert chosen.tolist() == choose(name, again, 40).tolist()
    assert len(set(chosen.tolist())) == 40
    assert choose(name, candidates, 7).tolist() == chosen[:7].tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_budget_beyond_the_patches_takes_all_of_them(name: StrategyName) -> None:
    candidates, _ = planted()
    assert sorted(choose(name, candidates, 10_000).tolist()) == list(range(len(candidates)))


@pytest.mark.parametrize("name", STRATEGIES)
def test_patches_that_are_all_the_same_are_taken_once_each(name: StrategyName) -> None:
    same = Candidates(
        features=np.ones((9, 4), np.float16), probabilities=np.full((9, 3), 1 / 3, np.float32), tissue=np.ones(9)
    )
    assert sorted(choose(name, same, 9).tolist()) == list(range(9))
    assert choose(name, same, 1).shape == (1,)


@pytest.mark.parametrize("name", ["diversity", "mix"])
def test_as_many_captions_as_kinds_meet_every_kind_however_rare(name: StrategyName) -> None:
    candidates, kinds = planted()
    assert set(kinds[choose(name, candidates, KINDS)]) == set(range(KINDS))
    assert set(kinds[choose("random", candidates, KINDS)]) != set(range(KINDS))


def test_k_centre_leaves_no_point_more_than_twice_as_far_as_the_best_choice() -> None:
    points = np.random.default_rng(3).normal(size=(14, 2)).astype(np.float32)
    apart = cdist(points, points)
    greedy = apart[:, k_centre(points, 3)].min(axis=1).max()
    best = min(
        apart[:, [a, b, c]].min(axis=1).max() for a in range(14) for b in range(a + 1, 14) for c in range(b + 1, 14)
    )
    assert best <= greedy <= 2 * best


def test_uncertainty_takes_the_least_certain_first() -> None:
    probabilities = np.array([[0.98, 0.01, 0.01], [0.34, 0.33, 0.33], [0.6, 0.3, 0.1]], np.float32)
    candidates = Candidates(features=np.eye(3, dtype=np.float16), probabilities=probabilities, tissue=np.ones(3))
    assert choose("uncertainty", candidates, 2).tolist() == [1, 2]
    assert candidates.uncertainty[1] == pytest.approx(1, abs=1e-3)


def test_the_mix_prefers_what_is_uncertain_and_what_weighs_among_patches_that_are_as_unlike() -> None:
    # Four corners of a simplex: all as far from one another.
    probabilities = np.array(
        [[0.98, 0.01, 0.01], [0.34, 0.33, 0.33], [0.98, 0.01, 0.01], [0.98, 0.01, 0.01]], np.float32
    )
    tissue = np.array([0.5, 0.5, 1.0, 0.5])
    candidates = Candidates(features=np.eye(4, dtype=np.float16), probabilities=probabilities, tissue=tissue)
    assert set(choose("mix", candidates, 2).tolist()) == {1, 2}
    assert candidates.influence.argmax() == 2
    assert candidates.influence.max() == pytest.approx(1)


def test_main_directions_keep_the_distances_between_unit_vectors() -> None:
    candidates, _ = planted(width=24)
    units = candidates.features.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    np.testing.assert_allclose(cdist(candidates.space, candidates.space), cdist(units, units), atol=1e-4)
    wide, _ = planted(width=200)
    assert wide.space.shape == (500, 32)


def test_main_directions_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, _ = planted()
    whole = main_directions(candidates.features)
    monkeypatch.setattr("mmlnb.caption_choice.CHUNK", 64)
    parts = main_directions(candidates.features)
    np.testing.assert_allclose(cdist(parts, parts), cdist(whole, whole), atol=1e-4)


def test_a_chosen_patch_stands_for_itself_also_beside_its_double() -> None:
    space = np.array([[0, 0], [0, 0], [1, 0], [0.9, 0]], np.float32)
    assert nearest_of(space, np.array([1, 2])).tolist() == [1, 1, 2, 2]
    assert nearest_of(space, np.array([1, 0, 2])).tolist() == [0, 1, 2, 2]
