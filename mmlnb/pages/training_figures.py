"""The figures of a training: its curves, stage by stage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from mmlnb.pages.drawing import COLOURS, INK, STYLES, draw, styled, svg

GATE = ("val_gate_q05", "val_gate_q25", "val_gate_q50", "val_gate_q75", "val_gate_q95")
"""Columns of history.csv: where the gate of the validation patches lies."""


@styled
def curves_figure(history: pd.DataFrame, columns: Mapping[str, str], *, name: str, title: str, label: str) -> Markup:
    """Columns of the fusion's `history` (to what each is called) over its epochs, with the boundaries of the stages."""
    figure, axes = _stages(history)
    epochs = _epochs(history)
    for (column, shown), colour, style in zip(columns.items(), COLOURS, STYLES, strict=False):
        axes.plot(epochs, history[column], style, color=colour, label=shown, marker=_marker(history))
    axes.set_ylabel(label)
    axes.legend(loc="best")
    return svg(figure, name, title)


@styled
def alpha_figure(history: pd.DataFrame) -> Markup:
    """Weight of the fused loss over the epochs."""
    figure, axes = _stages(history)
    axes.step(_epochs(history), history["alpha"], where="mid", color=COLOURS[0])
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("α")
    return svg(figure, "alpha", "α, the weight of the fused loss, over the epochs")


@styled
def gate_figure(history: pd.DataFrame) -> Markup:
    """Where the gate of the validation patches lies over the epochs: median, middle half and middle nine tenths."""
    figure, axes = _stages(history)
    epochs = _epochs(history)
    lowest, low, middle, high, highest = (history[column] for column in GATE)
    axes.fill_between(
        epochs, lowest, highest, color=COLOURS[0], alpha=0.2, label="5 to 95 % of the patches", linewidth=0
    )
    axes.fill_between(epochs, low, high, color=COLOURS[0], alpha=0.4, label="25 to 75 %", linewidth=0)
    axes.plot(epochs, middle, color=INK, label="median", marker=_marker(history))
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("gate: trust in the text")
    axes.legend(loc="best")
    return svg(figure, "gate", "Distribution of the gate over the validation patches, epoch by epoch")


@styled
def captions_figure(history: pd.DataFrame, columns: Mapping[str, str], *, name: str, title: str, label: str) -> Markup:
    """Columns of the fine-tuning's `history` (to what each is called) over its epochs, where they have values."""
    figure, axes = draw(5.6, 3.0)
    for (column, shown), colour, style in zip(columns.items(), COLOURS, STYLES, strict=False):
        known = history[history[column].notna()]
        axes.plot(known["epoch"], known[column], style, color=colour, label=shown, marker="o", markersize=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.legend(loc="best")
    return svg(figure, name, title)


def _stages(history: pd.DataFrame) -> tuple[Any, Any]:
    """A figure over the epochs with a line and a name for every stage."""
    figure, axes = draw(5.6, 3.0)
    stages = history["stage"].astype(str).to_numpy()
    changes = np.flatnonzero(stages[1:] != stages[:-1]) + 1
    for change in changes:
        axes.axvline(change + 0.5, color="#808080", linewidth=0.8, linestyle="--")
    for start in (0, *changes):
        axes.text(start + 0.6, 1.01, stages[start], fontsize=8, va="bottom", transform=axes.get_xaxis_transform())
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure, axes


def _epochs(history: pd.DataFrame) -> np.ndarray:
    return np.arange(1, len(history) + 1)


def _marker(history: pd.DataFrame) -> str:
    """A dot where a line of few epochs would hardly be seen."""
    return "." if len(history) < 40 else ""
