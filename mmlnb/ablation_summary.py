"""What an ablation says of an arm: means over the seeds, with intervals over patients and seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.assessment import main_measures
from fusion.classified import Classified
from fusion.intervals import RESAMPLES, Interval, interval, remark, resample
from fusion.weighted_measures import HIGHER_IS_BETTER


@dataclass(frozen=True)
class Measured:
    """One measure of one arm."""

    higher_is_better: bool
    mean: float | None
    """Over the seeds; None where a seed does not define it."""
    spread: float | None
    """Standard deviation over the seeds; None with one seed."""
    interval: Interval
    """95 % interval of the mean."""
    difference: float | None
    """Mean less that of the arm it is compared with."""
    difference_interval: Interval
    higher: float | None
    """Share of the resamples in which it is higher than that of the arm it is compared with."""


@dataclass(frozen=True)
class Summary:
    """All main measures of one arm over some rows."""

    rows: int
    patients: int
    measures: dict[str, Measured]
    remark: str | None
    """What to know before the intervals are relied on."""


@dataclass(frozen=True)
class Seeds:
    """One arm over some rows, as the trainings with each seed call them."""

    rows: Mapping[int, Classified]
    """The same rows for every seed."""
    measures: Mapping[int, dict[str, float | None]]
    """Main measures by seed."""
    drawn: Mapping[str, np.ndarray]
    """Main measures (RESAMPLES,) of the draws, as `Resamples.draw` gives them."""

    def mean(self, measure: str) -> float | None:
        """Mean over the seeds; None where a seed does not define it."""
        values = [one[measure] for one in self.measures.values()]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None


class Resamples:
    """Draws of patients and of training seeds, the same for every arm of an ablation.

    The patients are drawn with replacement, all rows of a patient together, and so are the seeds, whose measures are
    then averaged: the intervals hold both what other patients and what other trainings would have changed. With few
    seeds they are somewhat too narrow, since so few cannot show all that a seed may do.
    """

    def __init__(self, seeds: int, *, seed: int) -> None:
        self.seed = seed
        self._picked = np.random.default_rng([seed, seeds]).integers(seeds, size=(seeds, RESAMPLES))

    def draw(self, rows: Mapping[int, Classified]) -> Seeds:
        """Measure the `rows` of every seed, as they are and as drawn; NaN where a draw does not define a measure."""
        drawn = [resample(one, seed=self.seed) for one in rows.values()]
        return Seeds(
            rows=rows,
            measures={seed: main_measures(one) for seed, one in rows.items()},
            drawn={
                name: np.take_along_axis(np.stack([one[name] for one in drawn]), self._picked, axis=0).mean(axis=0)
                for name in HIGHER_IS_BETTER
            },
        )


def summarise(seeds: Seeds, *, against: Seeds | None) -> Summary:
    """Bring one arm together, compared with the arm `against`."""
    first = next(iter(seeds.rows.values()))
    return Summary(
        rows=len(first),
        patients=first.patients,
        measures={name: _measured(name, seeds, against) for name in HIGHER_IS_BETTER},
        remark=remark(first.patients, dict(seeds.drawn)),
    )


def _measured(name: str, seeds: Seeds, against: Seeds | None) -> Measured:
    mean, base = seeds.mean(name), against.mean(name) if against else None
    each = [value for one in seeds.measures.values() if (value := one[name]) is not None]
    # Means that are equal but for the order of their sums must not count as different.
    gaps = np.round(seeds.drawn[name] - against.drawn[name], 12) if against else np.full(1, np.nan)
    defined = gaps[np.isfinite(gaps)]
    return Measured(
        higher_is_better=HIGHER_IS_BETTER[name],
        mean=mean,
        spread=float(np.std(each, ddof=1)) if mean is not None and len(each) > 1 else None,
        interval=interval(seeds.drawn[name]),
        difference=None if mean is None or base is None else round(mean - base, 12),
        difference_interval=interval(gaps),
        higher=float((defined > 0).mean()) if len(defined) else None,
    )
