"""The figures of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from mmlnb.pages.drawing import COLOURS, INK, STYLES, draw, styled, svg


@styled
def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, name: str, title: str) -> Markup:
    """Confusion matrix (true classes down, predicted ones across) as counts, shaded by the share of the true class."""
    counts = np.array(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.55 * len(classes)
    figure, axes = draw(side + 0.3, side)
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="#808080", linewidth=0.5)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column + 0.5, row + 0.5, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xticks(np.arange(len(counts)) + 0.5, classes)
    axes.set_yticks(np.arange(len(counts)) + 0.5, classes)
    axes.set_xlabel("called")
    axes.set_ylabel("true")
    return svg(figure, name, title)


@styled
def reliability_figure(arms: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Accuracy over confidence, one line per arm; the area of a point is its share of the patches."""
    figure, axes = draw(4.0, 3.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for (arm, measured), colour, style in zip(arms.items(), COLOURS, STYLES, strict=False):
        bins = measured["calibration"]["bins"]
        confidence, accuracy, share = (
            np.array([one[key] for one in bins]) for key in ("confidence", "accuracy", "share")
        )
        axes.plot(confidence, accuracy, style, color=colour, label=_label(arm))
        axes.scatter(confidence, accuracy, s=10 + 150 * share, color=colour)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.legend(loc="upper left")
    return svg(
        figure, "reliability", "Reliability diagram: accuracy over confidence, by arm; the values are in index.csv"
    )


@styled
def risk_coverage_figure(arms: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Share of wrong calls among the surest, over how many are answered, one line per arm."""
    figure, axes = draw(4.0, 3.6)
    highest = 0.0
    for (arm, measured), colour, style in zip(arms.items(), COLOURS, STYLES, strict=False):
        points = measured["risk_coverage"]["points"]
        risk = [point["risk"] for point in points]
        highest = max([highest, *risk])
        axes.plot([point["coverage"] for point in points], risk, style, color=colour, label=_label(arm))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(1.1 * highest, 0.02))
    axes.set_xlabel("coverage: share of patches that are called")
    axes.set_ylabel("risk: share of those called wrong")
    axes.legend(loc="upper left")
    return svg(figure, "risk-coverage", "Risk over coverage, by arm; the values are in index.csv")


@styled
def interval_figure(rows: Sequence[tuple[str, float, Sequence[float] | None]], *, name: str, title: str) -> Markup:
    """One line per row: its value as a dot, its 95 % interval as a bar."""
    figure, axes = draw(5.2, 0.7 + 0.32 * len(rows))
    for place, (_, value, interval) in enumerate(rows):
        if interval is not None:
            axes.plot(interval, [place, place], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
        axes.plot(value, place, "o", color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    lowest = min(low for _, value, interval in rows for low in (value, *(interval or ())))
    axes.set_xlim(max(0.0, np.floor(10 * lowest - 0.5) / 10), 1.005)
    axes.set_xlabel("balanced accuracy, 95 % interval")
    return svg(figure, name, title)


def _label(arm: str) -> str:
    return arm.replace("_", " ")
