"""Settings of the synthetic cohort."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """What to draw, and how much of it."""

    out: Path
    """New or empty folder for the patches, the slides and their tables."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy whose classes and findings are drawn: a shipped name or a YAML file."""
    patients: int = 60
    """Patients with patches, spread evenly over the classes."""
    patches_per_patient: int = 24
    """Patches of each of these patients."""
    slides: int = 15
    """Whole slides, each of a patient of its own, spread evenly over the classes."""
    slide_px: int = 4096
    """Width and height of a slide in pixels; at least 1024."""
    patch_px: int = 224
    """Width and height of a patch in pixels; at least 64."""
    mpp: float = 0.5
    """Resolution of patches and slides in micrometres per pixel; from 0.2 to 2."""
    seed: int = 2024
    """Seed of every draw; the number of workers does not change what is drawn."""
    workers: int = 2
    """Processes that draw at the same time."""
