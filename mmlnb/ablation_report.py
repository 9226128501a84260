"""An ablation as CSV, as JSON, as a figure and as the table that is printed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.atomic import atomic, write_json
from fusion.slide_level import AGGREGATIONS
from mmlnb.ablation_arms import IMAGE_ARM, MAIN_ARM
from mmlnb.ablation_results import ArmResult, Level, rows_by_seed
from mmlnb.ablation_summary import Measured
from mmlnb.config import ArmName, TextName

SHOWN = "balanced_accuracy"
CALLED_BY: Level = "tissue_weighted"
"""The vote by which slides are called."""


@dataclass(frozen=True)
class Ablation:
    """Everything that is reported."""

    arms: Sequence[ArmResult]
    left_out: Mapping[ArmName, str]
    text: TextName | None
    """Text of the arms that do not name one."""
    seeds: Sequence[int]

    @property
    def has_slides(self) -> bool:
        """Whether patches name their slides."""
        return CALLED_BY in self.arms[0].summaries

    def notes(self) -> list[str]:
        """What a reader of the table has to know, a line each."""
        lines = [f"left out: {arm}, since {reason}" for arm, reason in self.left_out.items()]
        lines += [
            f"{one.arm} trains the same as {one.same_runs_as}; their runs are shared"
            for one in self.arms
            if one.same_runs_as
        ]
        if IMAGE_ARM not in {one.arm for one in self.arms}:
            lines.append(f"no differences, since {IMAGE_ARM} is not among the arms")
        if not self.has_slides:
            lines.append("no slides, since no patch names its slide (slide_id)")
        left_out = self.arms[0].trained.slides_left_out
        lines += [f"{count} slides are not counted: {reason.replace('_', ' ')}" for reason, count in left_out.items()]
        missing = {one.arm: one.trained.missing_text for one in self.arms if one.trained.variant.text != "none"}
        lines += [f"{arm}: {count} patches have no text" for arm, count in missing.items() if count]
        resumed = [one.arm for one in self.arms if any(run.cost.resumed for run in one.trained.runs)]
        if resumed:
            lines.append(f"seconds of the last attempt only, since a run was resumed: {', '.join(resumed)}")
        if remark := self.arms[0].summaries["patches"].remark:
            lines.append(f"intervals over patches: {remark}")
        if len(self.seeds) < 3:
            lines.append(f"{len(self.seeds)} seed{'s say' if len(self.seeds) > 1 else ' says'} little; give 3 or more")
        return lines


def write_ablation(ablation: Ablation, out: Path) -> str:
    """Write ablation.csv, .json and .png into `out`; returns the table of the main measures."""
    with atomic(out / "ablation.csv") as temporary:
        rows = [row for one in ablation.arms for row in rows_by_seed(one)]
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    _draw(ablation, out / "ablation.png")
    # Last, since its presence says that the rest is there.
    write_json(out / "ablation.json", _content(ablation))
    return _table(ablation)


def _content(ablation: Ablation) -> dict[str, Any]:
    return {
        "seeds": list(ablation.seeds),
        "text": ablation.text,
        "left_out": dict(ablation.left_out),
        "notes": ablation.notes(),
        "arms": {
            one.arm: {
                **asdict(one.trained.variant),
                "same_runs_as": one.same_runs_as,
                "patches_without_text": one.trained.missing_text,
                "seconds": one.trained.seconds,
                "patches": asdict(one.summaries["patches"]),
                "slides": {vote: asdict(one.summaries[vote]) for vote in AGGREGATIONS} if ablation.has_slides else None,
            }
            for one in ablation.arms
        },
    }


def _table(ablation: Ablation) -> str:
    first = ablation.arms[0].summaries["patches"]
    lines = [
        f"{first.rows} patches of {first.patients} patients; seeds {', '.join(map(str, ablation.seeds))}; text of the "
        f"arms that name none: {ablation.text or 'none given'}",
        f"{'arm':<30}{'balanced accuracy (95 %)':>26}{'spread':>8}{f'less {IMAGE_ARM} (95 %)':>27}{'AUROC':>8}"
        f"{'slides':>8}{'seconds':>9}",
    ]
    for one in ablation.arms:
        patches = one.summaries["patches"].measures
        slides = one.summaries[CALLED_BY].measures[SHOWN].mean if ablation.has_slides else None
        seconds = one.trained.seconds["total"]
        lines.append(
            f"{one.arm:<30}{_line(patches[SHOWN])}{_shown(patches['auroc'].mean):>8}{_shown(slides):>8}"
            f"{'—' if seconds is None else f'{seconds:.0f}':>9}"
        )
    main = next((one for one in ablation.arms if one.arm == MAIN_ARM), None)
    if main and ablation.has_slides:
        lines += [
            f"{f'{MAIN_ARM} slides, ' + vote.replace('_', ' '):<30}{_line(main.summaries[vote].measures[SHOWN])}"
            f"{_shown(main.summaries[vote].measures['auroc'].mean):>8}"
            for vote in AGGREGATIONS
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in ablation.notes())])


def _line(measured: Measured) -> str:
    value, gap = _shown(measured.mean), _shown(measured.difference, signed=True)
    if measured.interval:
        value += f" ({_shown(measured.interval[0])}–{_shown(measured.interval[1])})"
    if measured.difference_interval:
        low, high = measured.difference_interval
        gap += f" ({_shown(low, signed=True)} to {_shown(high, signed=True)})"
    return f"{value:>26}{_shown(measured.spread):>8}{gap:>27}"


def _shown(value: float | None, *, signed: bool = False) -> str:
    return "—" if value is None else f"{value:{'+' if signed else ''}.3f}"


def _draw(ablation: Ablation, path: Path) -> None:
    """Balanced accuracy of every arm with its interval and seeds, and beside it the difference to image only."""
    from matplotlib.figure import Figure

    bars: list[tuple[str, ArmResult, Level]] = [(one.arm, one, "patches") for one in ablation.arms]
    if ablation.has_slides:
        main = next((one for one in ablation.arms if one.arm == MAIN_ARM), ablation.arms[-1])
        bars += [(f"{main.arm}, slides, {vote.replace('_', ' ')}", main, vote) for vote in AGGREGATIONS]
    figure = Figure(figsize=(9, 1.3 + 0.36 * len(bars)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, (_, one, level) in enumerate(bars):
        measured = one.summaries[level].measures[SHOWN]
        colour = "#0072b2" if level == "patches" else "#d55e00"
        _point(left, place, measured.mean, measured.interval, colour)
        seeds = [value for each in one.trained.levels[level].measures.values() if (value := each[SHOWN]) is not None]
        left.plot(seeds, [place] * len(seeds), linestyle="none", marker="|", markersize=9, color="#555555")
        _point(right, place, measured.difference, measured.difference_interval, colour)
    left.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    left.invert_yaxis()
    left.set_xlabel("balanced accuracy: mean, 95 % interval, | each seed")
    right.axvline(0, color="#777777", linewidth=0.8, linestyle="--")
    right.set_xlabel(f"difference to {IMAGE_ARM}")
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})


def _point(axis: Any, place: int, mean: float | None, interval: tuple[float, float] | None, colour: str) -> None:
    if interval is not None:
        axis.hlines(place, *interval, color=colour, linewidth=2)
    if mean is not None:
        axis.plot(mean, place, marker="o", color=colour)
