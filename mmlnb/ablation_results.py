"""The predictions of an ablation, read back and measured arm by arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from fusion.classified import Classified
from fusion.config import Aggregation
from fusion.predictions import read_predictions
from fusion.slide_level import call_slides, group_slides
from mmlnb.ablation_arms import IMAGE_ARM, Variant
from mmlnb.ablation_runs import Run
from mmlnb.ablation_summary import Resamples, Seeds, Summary, summarise
from mmlnb.config import ArmName

Level = Literal["patches"] | Aggregation
"""What is counted: patches, or slides by one of the votes."""


@dataclass(frozen=True)
class Trained:
    """All runs of one variant."""

    variant: Variant
    runs: Sequence[Run]
    levels: Mapping[Level, Seeds]
    """What the fused model called; slides only where patches name them."""
    missing_text: int
    """Patches without text among those that were tested."""
    slides_left_out: Mapping[str, int]
    """Slides that are not counted, by reason."""

    @property
    def seconds(self) -> dict[str, float | None]:
        """Mean seconds of a run; None where one of them is not known."""
        costs = [run.cost for run in self.runs]
        return {
            "train": _mean([cost.train_seconds for cost in costs]),
            "evaluate": _mean([cost.evaluate_seconds for cost in costs]),
            "total": _mean([cost.seconds for cost in costs]),
        }


@dataclass(frozen=True)
class ArmResult:
    """One arm, measured."""

    arm: ArmName
    trained: Trained
    same_runs_as: ArmName | None
    """An earlier arm that trains the very same thing."""
    summaries: Mapping[Level, Summary]


def read_trained(runs: Sequence[Run], resamples: Resamples) -> Trained:
    """Read the finished `runs` of one variant.

    Raises:
        InputError: a run that is not finished, or of an earlier version.
    """
    rows: dict[Level, dict[int, Classified]] = {"patches": {}}
    missing = 0
    left_out: dict[str, int] = {}
    for run in runs:
        predictions = read_predictions(run.evaluation.out)
        missing = int((~predictions.has_text).sum())
        rows["patches"][run.seed] = predictions.classified("fused")
        slides = group_slides(predictions)
        if slides is not None:
            left_out = {reason: count for reason, count in slides.left_out.items() if count}
            for vote, called in call_slides(slides, predictions, "fused").items():
                rows.setdefault(vote, {})[run.seed] = called
    return Trained(
        variant=runs[0].variant,
        runs=runs,
        levels={level: resamples.draw(by_seed) for level, by_seed in rows.items()},
        missing_text=missing,
        slides_left_out=left_out,
    )


def measure_arms(variants: Mapping[ArmName, Variant], runs: Sequence[Run], *, seed: int) -> list[ArmResult]:
    """Measure every arm against image only, over patches and over slides by every vote; `seed` draws the intervals."""
    resamples = Resamples(len({run.seed for run in runs}), seed=seed)
    trained = {
        variant: read_trained([run for run in runs if run.variant == variant], resamples)
        for variant in dict.fromkeys(variants.values())
    }
    against = trained[variants[IMAGE_ARM]].levels if IMAGE_ARM in variants else {}
    first: dict[Variant, ArmName] = {}
    results = []
    for arm, variant in variants.items():
        same = first.setdefault(variant, arm)
        summaries = {
            level: summarise(seeds, against=None if arm == IMAGE_ARM else against.get(level))
            for level, seeds in trained[variant].levels.items()
        }
        results.append(
            ArmResult(
                arm=arm, trained=trained[variant], same_runs_as=None if same == arm else same, summaries=summaries
            )
        )
    return results


def rows_by_seed(result: ArmResult) -> list[dict[str, Any]]:
    """A row per level and seed of one arm, as the CSV holds them."""
    variant = result.trained.variant
    return [
        {
            "arm": result.arm,
            "block": variant.block,
            "text": variant.text,
            "curriculum": variant.curriculum,
            "level": "patch" if level == "patches" else "slide",
            "vote": None if level == "patches" else level,
            "seed": run.seed,
            "rows": len(seeds.rows[run.seed]),
            "patients": seeds.rows[run.seed].patients,
            "patches_without_text": result.trained.missing_text,
            **seeds.measures[run.seed],
            "train_seconds": run.cost.train_seconds,
            "evaluate_seconds": run.cost.evaluate_seconds,
            "resumed": run.cost.resumed,
        }
        for level, seeds in result.trained.levels.items()
        for run in result.trained.runs
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 3) if known and len(known) == len(values) else None
