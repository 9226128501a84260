"""Which patches of a slide are worth a caption, from what the image branch says of all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import entropy
from sklearn.metrics import pairwise_distances_argmin_min

from fusion.aggregate import aggregate
from mmlnb.caption_budget import StrategyName

# Distances are taken along the directions in which the patches of a slide differ most, of which a few dozen suffice:
# a step of k-centre then reads 100 bytes a patch instead of thousands.
DIRECTIONS = 32
CHUNK = 8192
SEED = 2024
# What a patch counts in the mix that is neither uncertain nor of weight, beside 1 for one that is wholly either.
FLOOR = 0.25


@dataclass(frozen=True, eq=False)
class Candidates:
    """The N patches of a slide that captions are to be spent on."""

    features: np.ndarray
    """Of the image tower (N, D), float16 or wider."""
    probabilities: np.ndarray
    """Per class, from the image alone (N, classes)."""
    tissue: np.ndarray
    """Share of tissue in each patch (N,)."""

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def space(self) -> np.ndarray:
        """The features as unit vectors along the main directions of the slide, float32 (N, at most DIRECTIONS)."""
        return main_directions(self.features)

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """Entropy of the image-only call (N,), from 0 to 1 where all classes are as likely."""
        return entropy(self.probabilities.astype(np.float64), axis=1) / np.log(self.probabilities.shape[1])

    @cached_property
    def influence(self) -> np.ndarray:
        """How much each patch moves the margin of the slide's call (N,), from 0 to 1 for the one that does most.

        The slide's probabilities are the mean over the patches by tissue, so a patch adds its tissue times its own
        difference between the called class and the runner-up.
        """
        runner_up, called = aggregate(self.probabilities, self.tissue).tissue_weighted.argsort(kind="stable")[-2:]
        moved = self.tissue * np.abs(self.probabilities[:, called] - self.probabilities[:, runner_up])
        return moved / max(float(moved.max()), np.finfo(float).tiny)


def choose(name: StrategyName, candidates: Candidates, count: int) -> np.ndarray:
    """Indices (count,) of the patches to describe, the most worthwhile first; the same for the same candidates.

    A smaller `count` gives the beginning of a larger one.
    """
    return STRATEGIES[name](candidates, min(count, len(candidates)))


def main_directions(features: np.ndarray) -> np.ndarray:
    """Unit vectors of `features` (N, D) along their principal components, float32 (N, at most DIRECTIONS).

    In chunks, so that no wide copy of all features is made. Distances there are those between the unit vectors, less
    what lies outside the DIRECTIONS along which they differ most.
    """
    count, width = features.shape
    total, products = np.zeros(width), np.zeros((width, width))
    for start in range(0, count, CHUNK):
        units = _units(features[start : start + CHUNK])
        total += units.sum(axis=0)
        products += units.T @ units
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    main = vectors[:, ::-1][:, :DIRECTIONS]
    found = np.empty((count, main.shape[1]), dtype=np.float32)
    for start in range(0, count, CHUNK):
        found[start : start + CHUNK] = (_units(features[start : start + CHUNK]) - mean) @ main
    return found


def nearest_of(space: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Index (N,) of the patch among `chosen` (k,), k at least 1, that each point of `space` (N, d) lies nearest to.

    A chosen one is its own nearest, also where another has equal features.
    """
    nearest, _ = pairwise_distances_argmin_min(space, space[chosen])
    found = np.asarray(chosen)[nearest]
    found[chosen] = chosen
    return found


def k_centre(points: np.ndarray, count: int, *, priority: np.ndarray | None = None) -> np.ndarray:
    """Indices (count,) of points (N, d) that lie far from one another (Gonzalez, Theor. Comput. Sci. 1985).

    Greedy: the first is the one nearest the mean, each further one that which is farthest from those chosen before,
    which leaves no point more than twice as far from its centre as the best choice would. With `priority` (N,) the
    first is that of the highest, and distances count times it. Equals are taken in their order. O(N count).
    """
    squares = np.einsum("nd,nd->n", points, points)
    weight = np.ones(len(points)) if priority is None else priority
    if priority is None:
        latest = int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    else:
        latest = int(np.argmax(priority))
    distance = np.full(len(points), np.inf)
    taken = np.zeros(len(points), dtype=bool)
    order = []
    for _ in range(count):
        order.append(latest)
        taken[latest] = True
        apart = squares + squares[latest] - 2 * points @ points[latest]
        np.minimum(distance, np.sqrt(np.maximum(apart, 0)), out=distance)
        # Those taken lie at 0, as their doubles do, and must not be taken again.
        latest = int(np.argmax(np.where(taken, -1.0, weight * distance)))
    return np.array(order, dtype=int)


def _random(candidates: Candidates, count: int) -> np.ndarray:
    return np.random.default_rng(SEED).permutation(len(candidates))[:count]


def _uncertainty(candidates: Candidates, count: int) -> np.ndarray:
    return np.argsort(-candidates.uncertainty, kind="stable")[:count]


def _diversity(candidates: Candidates, count: int) -> np.ndarray:
    return k_centre(candidates.space, count)


def _mix(candidates: Candidates, count: int) -> np.ndarray:
    """K-centre in which what is uncertain, or weighs in the slide's call, lies farther away.

    A product rather than a sum: in a sum the distances shrink as the slide is covered, until it is the uncertainty
    alone that chooses, and takes patches that are all alike.
    """
    priority = FLOOR + candidates.uncertainty + candidates.influence
    return k_centre(candidates.space, count, priority=priority)


def _units(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float32).tiny)


STRATEGIES: dict[StrategyName, Callable[[Candidates, int], np.ndarray]] = {
    "mix": _mix,
    "random": _random,
    "uncertainty": _uncertainty,
    "diversity": _diversity,
}
"""Name, as `--choose` takes it, to what orders the patches."""
