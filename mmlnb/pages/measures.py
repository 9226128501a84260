"""What an evaluation measured, as the tables of a page and as one long table for programs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "kappa": "Quadratic κ",
    "precision": "Precision",
    "recall": "Recall",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "risk_coverage_area": "Risk–coverage area",
}
"""Measures of an arm in the order of the page; earlier evaluations lack some."""

CLASS_MEASURES = {
    "support": "Patches",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
}

AGGREGATIONS = {
    "tissue_weighted": "mean weighted by tissue",
    "mean": "mean",
    "hard_vote": "vote of the patches",
}


def value_of(measured: dict[str, Any], measure: str) -> float | None:
    """The value of a measure of one arm; None where it is not defined."""
    if measure == "calibration_error":
        measure, measured = "error", measured.get("calibration", {})
    if measure == "risk_coverage_area":
        measure, measured = "area", measured.get("risk_coverage", {})
    value = measured.get(measure)
    return None if value is None else float(value)


def known_measures(measured: dict[str, Any]) -> dict[str, str]:
    """The measures that this evaluation has, also where they are not defined, with their titles."""
    nested = {"calibration_error": "calibration", "risk_coverage_area": "risk_coverage"}
    return {name: title for name, title in MEASURES.items() if nested.get(name, name) in measured}


def measures_frame(metrics: dict[str, Any], arms: tuple[str, ...]) -> pd.DataFrame:
    """Every figure on patches and slides, one per row: level, arm, table, item, measure, value and interval."""
    rows: list[tuple[Any, ...]] = []
    classes = metrics["classes"]
    for arm in arms:
        rows += _arm(metrics[arm], classes, level="patches", arm=arm)
    for aggregation, measured in (metrics.get("slides") or {}).get("aggregations", {}).items():
        for arm in arms:
            rows += _arm(measured[arm], classes, level=f"slides, {aggregation}", arm=arm)
    return pd.DataFrame(rows, columns=["level", "arm", "table", "item", "measure", "value", "low", "high"])


def _arm(measured: dict[str, Any], classes: list[str], *, level: str, arm: str) -> Iterator[tuple[Any, ...]]:
    def row(table: str, item: Any, measure: str, value: Any, interval: Any = None) -> tuple[Any, ...]:
        return (level, arm, table, item, measure, value, *(interval or (None, None)))

    intervals = measured.get("intervals") or {}
    yield row("measures", None, "count", measured.get("patches", measured.get("slides")))
    for name in known_measures(measured):
        yield row("measures", None, name, value_of(measured, name), intervals.get(name))
    for one, values in (measured.get("per_class") or {}).items():
        for name in CLASS_MEASURES:
            yield row("per class", one, name, values[name])
    for truth, counts in zip(classes, measured["confusion"], strict=True):
        for called, count in zip(classes, counts, strict=True):
            yield row("confusion", truth, f"called {called}", count)
    for number, values in enumerate((measured.get("calibration") or {}).get("bins", []), 1):
        for name, value in values.items():
            yield row("reliability", number, name, value)
    for number, values in enumerate((measured.get("risk_coverage") or {}).get("points", []), 1):
        for name, value in values.items():
            yield row("risk coverage", number, name, value)
