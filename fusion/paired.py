"""Two results of the same rows: how far their measures differ, and how surely."""

from dataclasses import dataclass

import numpy as np

from fusion.assessment import main_measures
from fusion.classified import Classified
from fusion.intervals import Interval, interval, remark, resample
from fusion.weighted_measures import HIGHER_IS_BETTER


@dataclass(frozen=True)
class Difference:
    """One measure of A and of B."""

    higher_is_better: bool
    a: float | None
    b: float | None
    difference: float | None
    """A less B."""
    interval: Interval
    """95 % interval of the difference."""
    a_higher: float | None
    """Share of the resamples in which the measure is higher for A."""
    b_higher: float | None
    """Share of them in which it is higher for B; where it is the same for both, neither has it."""


@dataclass(frozen=True)
class Paired:
    """All main measures of A and B over the same rows."""

    rows: int
    patients: int
    measures: dict[str, Difference]
    remark: str | None
    """What to know before the intervals are relied on."""


def pair(a: Classified, b: Classified, *, seed: int) -> Paired:
    """Compare A and B, which classify the same rows in the same order, by a bootstrap that draws them alike."""
    measured_a, measured_b = main_measures(a), main_measures(b)
    drawn_a, drawn_b = resample(a, seed=seed), resample(b, seed=seed)
    gaps = {name: _less(drawn_a[name], drawn_b[name]) for name in HIGHER_IS_BETTER}
    return Paired(
        rows=len(a),
        patients=a.patients,
        measures={name: _difference(name, measured_a[name], measured_b[name], gaps[name]) for name in HIGHER_IS_BETTER},
        remark=remark(a.patients, gaps),
    )


def _difference(name: str, a: float | None, b: float | None, gaps: np.ndarray) -> Difference:
    known = gaps[np.isfinite(gaps)]
    return Difference(
        higher_is_better=HIGHER_IS_BETTER[name],
        a=a,
        b=b,
        difference=None if a is None or b is None else float(_less(a, b)),
        interval=interval(gaps),
        a_higher=float((known > 0).mean()) if len(known) else None,
        b_higher=float((known < 0).mean()) if len(known) else None,
    )


def _less(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """`a` less `b`; means that are equal but for the order of their sums must not count as different."""
    return np.round(np.subtract(a, b), 12) + 0.0
