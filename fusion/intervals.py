"""95 % intervals of the main measures, by bootstrap over patients."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

from fusion.classified import Classified
from fusion.weighted_measures import HIGHER_IS_BETTER, WeightedMeasures

RESAMPLES = 1000
FEW_PATIENTS = 5
# Rows times resamples at once: each takes some ten numbers in memory.
_AT_ONCE = 1_000_000

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Intervals:
    """Intervals of the main measures."""

    measures: dict[str, Interval]
    """Lowest and highest value; None where the measure is not defined, or there are no two patients."""
    remark: str | None
    """What to know before they are relied on."""


def resample(rows: Classified, *, seed: int) -> dict[str, np.ndarray]:
    """Draw the patients of `rows` with replacement, all rows of a patient together, `RESAMPLES` times.

    Returns:
        Each main measure (RESAMPLES,), NaN where the draw does not define it, everywhere with fewer than two patients.
        The same patients and seed are drawn alike, so that two results of the same rows are paired.
    """
    if rows.patients < 2:
        return {name: np.full(RESAMPLES, np.nan) for name in HIGHER_IS_BETTER}
    measures = WeightedMeasures(rows)

    def measured(drawn: np.ndarray, axis: int) -> np.ndarray:
        weights = [np.bincount(one, minlength=measures.patients) for one in drawn.astype(int)]
        return np.stack(list(measures(np.stack(weights)).values()))  # (measures, B)

    with warnings.catch_warnings():
        # Its own interval has no room for draws that do not define a measure.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (np.arange(measures.patients),),
            measured,
            n_resamples=RESAMPLES,
            batch=max(1, _AT_ONCE // len(rows)),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return dict(zip(HIGHER_IS_BETTER, found.bootstrap_distribution, strict=True))


def interval(values: np.ndarray) -> Interval:
    """The middle 95 % of `values` (resamples,), those that are NaN left out; None where all are."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def intervals(rows: Classified, *, seed: int) -> Intervals:
    """Interval of every main measure of `rows`."""
    drawn = resample(rows, seed=seed)
    return Intervals(
        measures={name: interval(values) for name, values in drawn.items()},
        remark=remark(rows.patients, drawn),
    )


def remark(patients: int, drawn: dict[str, np.ndarray]) -> str | None:
    """What to know before intervals of so many `patients` and of `drawn` are relied on; None where all is well."""
    if patients < 2:
        return "no intervals: fewer than 2 patients"
    remarks = []
    if patients < FEW_PATIENTS:
        remarks.append(f"only {patients} patients, so the intervals are rough")
    partly = {
        name: int(missing) for name, values in drawn.items() if 0 < (missing := np.isnan(values).sum()) < len(values)
    }
    remarks += [f"{name} is not defined in {count} of {RESAMPLES} resamples" for name, count in partly.items()]
    return "; ".join(remarks) or None
