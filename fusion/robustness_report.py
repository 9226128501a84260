"""Robustness as a table, as JSON and as a figure."""

from pathlib import Path

import pandas as pd

from data.atomic import atomic, write_json
from fusion.robustness import areas

REPORT_FILES = ("robustness.csv", "robustness.json", "robustness.png")


def write_robustness(points: pd.DataFrame, out: Path) -> str:
    """Write robustness.csv, .json and .png into `out`; returns a table of what is lost at the full rate."""
    with atomic(out / "robustness.csv") as temporary:
        points.to_csv(temporary, index=False)
    table = areas(points)
    write_json(out / "robustness.json", {"areas": _records(table), "points": _records(points)})
    _draw(points, out / "robustness.png")
    lines = [f"{'corruption':<26}{'area fused':>12}{'image':>8}{'at rate 1':>12}{'image':>8}{'gate AUROC':>12}"]
    for row in table.itertuples(index=False):
        curve = points[points["corruption"] == row.corruption]
        last = curve[curve["rate"] == curve["rate"].max()].iloc[0]
        gate = curve["gate_auroc"].dropna()
        lines.append(
            f"{row.corruption:<26}{row.fused_balanced_accuracy:>12.3f}{row.image_balanced_accuracy:>8.3f}"
            f"{last['fused_balanced_accuracy']:>12.3f}{last['image_balanced_accuracy']:>8.3f}"
            f"{'—' if gate.empty else f'{gate.mean():.3f}':>12}"
        )
    return "\n".join(lines)


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    """Rows of `table`, what is not defined as None."""
    return table.astype(object).where(table.notna(), None).to_dict(orient="records")


def _draw(points: pd.DataFrame, path: Path) -> None:
    """A curve of balanced accuracy for each corruption, that of the image alone beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(points["corruption"]))
    columns = 4
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.5 * rows), sharex=True, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        curve = points[points["corruption"] == name]
        axis.plot(curve["rate"], curve["fused_balanced_accuracy"], marker="o", color="C0", label="image and text")
        axis.plot(curve["rate"], curve["image_balanced_accuracy"], linestyle="--", color="C1", label="image alone")
        text = curve["text_balanced_accuracy"].astype(float)
        axis.plot(curve["rate"], text, linestyle=":", color="C2", label="text alone")
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0, 1.02)
    for axis in axes[-1]:
        axis.set_xlabel("rate")
    for axis in axes[:, 0]:
        axis.set_ylabel("balanced accuracy")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", frameon=False)
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
