"""Everything that is measured of one arm, over patches or over slides."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusion.classified import Classified
from fusion.intervals import Intervals, intervals
from fusion.metrics import Metrics, measure
from fusion.per_class import ClassMetrics, per_class
from fusion.reliability import Calibration, calibration
from fusion.selective import RiskCoverage, risk_coverage
from fusion.weighted_measures import HIGHER_IS_BETTER


@dataclass(frozen=True)
class Assessment:
    """Measures of some classified rows, with their intervals."""

    metrics: Metrics
    per_class: dict[str, ClassMetrics]
    calibration: Calibration
    risk_coverage: RiskCoverage
    intervals: Intervals

    def as_dict(self, *, rows: str = "patches") -> dict[str, Any]:
        """As JSON holds it; `rows` names what was counted."""
        metrics = self.metrics.as_dict()
        return {
            rows: metrics.pop("patches"),
            **metrics,
            "per_class": {name: asdict(one) for name, one in self.per_class.items()},
            "calibration": asdict(self.calibration),
            "risk_coverage": asdict(self.risk_coverage),
            "intervals": self.intervals.measures,
            "intervals_remark": self.intervals.remark,
        }


def assess(rows: Classified, classes: Sequence[str], *, seed: int) -> Assessment:
    """Measure `rows`, which may be none; `seed` draws the patients of the intervals."""
    return Assessment(
        metrics=measure(rows.labels, rows.probabilities),
        per_class=dict(zip(classes, per_class(rows.labels, rows.probabilities), strict=True)),
        calibration=calibration(rows.labels, rows.probabilities),
        risk_coverage=risk_coverage(rows.labels, rows.probabilities),
        intervals=intervals(rows, seed=seed),
    )


def main_measures(rows: Classified) -> dict[str, float | None]:
    """The measures of `rows` that have an interval, by name; None where not defined."""
    metrics = measure(rows.labels, rows.probabilities).as_dict()
    metrics["calibration_error"] = calibration(rows.labels, rows.probabilities).error
    metrics["risk_coverage_area"] = risk_coverage(rows.labels, rows.probabilities).area
    return {name: metrics[name] for name in HIGHER_IS_BETTER}
