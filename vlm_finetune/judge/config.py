"""Settings of the judging of captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EvaluateCaptionsConfig:
    """Judge captions against the findings that are there and against what a person wrote."""

    manifest: Path
    """Manifest (patches.parquet) of the patches; its findings are the truth, or else those its descriptions state."""
    captions: Path
    """Folder of the captions, as `mmlnb caption` writes it."""
    out: Path
    """Output folder: metrics.json, per_finding.csv, worst.md, config.yaml."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Split to judge."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name or YAML file; its lexicon reads the findings out of the texts."""
    worst: int = 20
    """Captions to show in worst.md, those with the most findings that are not there first."""
    resamples: int = 1000
    """Resamples of the patients for the 95 % intervals; 0 for none."""
    seed: int = 2024
    """Seed of the resamples and of the probe's folds."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("worst", "resamples"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name} {getattr(self, name)}: give 0 or more")
