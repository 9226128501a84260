"""One run of an ablation: a variant with one seed, trained and evaluated, or found finished."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data.atomic import write_json
from data.taxonomy import load_taxonomy
from fusion.config import EvaluateConfig, TrainConfig
from fusion.evaluate import evaluate, evaluation_key
from fusion.predictions import PREDICTIONS
from fusion.run_folder import claim, run_key
from fusion.train import train
from mmlnb.ablation_arms import Variant


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    train_seconds: float | None = None
    """None where the run was cut off right after its training, before this was noted."""
    evaluate_seconds: float | None = None
    resumed: bool = False
    """Whether a training that was cut off went on; the seconds are then those of the last attempt."""

    @property
    def seconds(self) -> float | None:
        """Training and evaluation together; None where either is not known."""
        known = self.train_seconds is not None and self.evaluate_seconds is not None
        return self.train_seconds + self.evaluate_seconds if known else None  # type: ignore[operator]


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: Variant
    folder: Path
    """Holds train/, evaluate/ and cost.json."""
    settings: TrainConfig
    evaluation: EvaluateConfig

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.settings.seed

    @property
    def cost(self) -> Cost:
        """What the run took, as far as it was noted."""
        try:
            return Cost(**json.loads((self.folder / "cost.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Cost()

    def is_trained(self) -> bool:
        """Whether the training is finished.

        Raises:
            InputError: the folder holds the training of other settings, rows or captions.
        """
        taxonomy = load_taxonomy(self.settings.taxonomy)
        return claim(self.settings, key=run_key(self.settings, taxonomy_key=taxonomy.key))

    def is_evaluated(self) -> bool:
        """Whether the evaluation of the finished training is there."""
        metrics, predictions = self.evaluation.out / "metrics.json", self.evaluation.out / PREDICTIONS
        if not (metrics.is_file() and predictions.is_file()):
            return False
        # Of another key, it is refused by the evaluation with a line that says so.
        return bool(json.loads(metrics.read_text(encoding="utf-8")).get("key") == evaluation_key(self.evaluation))

    def finish(self) -> bool:
        """Do what is not done yet, and note what it took; returns whether there was anything to do."""
        trained = self.is_trained()
        if trained and self.is_evaluated():
            return False
        cost = self.cost if trained else Cost(resumed=self.settings.out.exists())
        if not trained:
            started = time.monotonic()
            train(self.settings)
            cost = Cost(train_seconds=round(time.monotonic() - started, 3), resumed=cost.resumed)
            write_json(self.folder / "cost.json", asdict(cost))
        started = time.monotonic()
        evaluate(self.evaluation)
        cost = Cost(cost.train_seconds, round(time.monotonic() - started, 3), cost.resumed)
        write_json(self.folder / "cost.json", asdict(cost))
        return True


def make_run(
    variant: Variant,
    ground: TrainConfig,
    *,
    seed: int,
    captions: Path | None,
    out: Path,
    interval_seed: int,
) -> Run:
    """The run of `variant` with `seed`, below the folder `out` of the ablation."""
    folder = out / "runs" / variant.name / f"seed-{seed}"
    settings = replace(
        variant.settings(ground, captions=captions), seed=seed, out=folder / "train", features=out / "features"
    )
    evaluation = EvaluateConfig(
        model=settings.out,
        manifest=settings.manifest,
        captions=captions,
        text_source=settings.text_source,
        out=folder / "evaluate",
        device=settings.device,
        workers=settings.workers,
        seed=interval_seed,
    )
    return Run(variant=variant, folder=folder, settings=settings, evaluation=evaluation)
