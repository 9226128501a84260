"""Plots as inline SVG."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.taxonomy import Taxonomy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_figure(confusion: list[list[int]], taxonomy: Taxonomy) -> Markup:
    """Confusion matrix (true classes down, predicted ones across) as counts, shaded by the share of the true class."""
    counts = np.array(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(width=3.6, height=3.2)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(counts)), taxonomy.class_names)
    axes.set_yticks(range(len(counts)), taxonomy.class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return _svg(figure, "Confusion matrix of the fused model")


def curriculum_figure(history: pd.DataFrame) -> Markup:
    """Validation balanced accuracy and α over the epochs, with the boundaries of the stages."""
    figure, axes = _figure(width=6.4, height=3.2)
    epochs = np.arange(1, len(history) + 1)
    axes.plot(epochs, history["val_balanced_accuracy"], color="#0072b2", label="balanced accuracy, validation")
    axes.step(epochs, history["alpha"], where="mid", color="#d55e00", label="α, weight of the fused loss")
    changes = np.flatnonzero(history["stage"].to_numpy()[1:] != history["stage"].to_numpy()[:-1]) + 1.5
    for boundary in changes:
        axes.axvline(boundary, color="#777777", linewidth=0.8, linestyle="--")
    for start, name in zip([0.5, *changes], history["stage"].unique(), strict=False):
        axes.text(start + 0.2, 1.04, str(name), fontsize=8, va="bottom")
    axes.set_ylim(0, 1.03)
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    return _svg(figure, "Balanced accuracy on the validation patients over the epochs of the curriculum")


def _figure(*, width: float, height: float) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots()


def _svg(figure: "Figure", title: str) -> Markup:
    import matplotlib

    buffer = io.StringIO()
    # Fixed ids and no date: the same run gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "mmlnb", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return Markup(drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))
