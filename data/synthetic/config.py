"""Settings of the synthetic cohort."""

from dataclasses import dataclass, fields
from pathlib import Path

from data.errors import InputError

HARDER = ("sites", "stain_shift", "held_out_sites", "rare_findings", "label_noise", "patch_slides")
"""Settings that came later than the rest; at their defaults they change no byte of a cohort."""


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
    sites: int = 0
    """Laboratories, each with a stain of its own, to whom the patients are dealt evenly (column site); 0 knows none."""
    stain_shift: float = 1.0
    """How far the stains of the sites lie apart; 0 makes them alike."""
    held_out_sites: int = 0
    """How many of the sites, the last ones, are for testing alone (column split); 0 leaves the split to `prepare`."""
    rare_findings: float = 0.0
    """Share of the patches, and of the regions of a slide, in which the findings that define their class are not to be
    seen: drawn and described as absent, the label as ever."""
    label_noise: float = 0.0
    """Share of the patches for training and validation that get a wrong label. Those for testing keep theirs (column
    split), and the column true_label has all of them."""
    patch_slides: int = 0
    """Slides that the patches of each patient are said to come from (column slide_id); 0 names none."""

    def __post_init__(self) -> None:
        """Check what makes a cohort harder; sizes are checked where they are used."""
        for name in ("rare_findings", "label_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 0 to 1")
        for name in ("sites", "stain_shift", "held_out_sites", "patch_slides"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"--{name} {getattr(self, name)}: give 0 or more")
        if self.held_out_sites and self.held_out_sites >= self.sites:
            raise InputError(f"--held_out_sites {self.held_out_sites}: give fewer than --sites, which is {self.sites}")

    @property
    def harder(self) -> tuple[str, ...]:
        """Those of `HARDER` that are not at their default."""
        default = {field.name: field.default for field in fields(self)}
        return tuple(name for name in HARDER if getattr(self, name) != default[name])
