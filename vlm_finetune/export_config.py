"""Settings of exporting an adapter."""

from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Merge an adapter into its base: one model folder, for tools that know no adapters, shown to say the same."""

    adapter: Path
    """Output folder of `mmlnb finetune`."""
    out: Path
    """Model folder to make."""
    model: str | None = None
    """Base model, if it is not found under the name that the adapter carries."""
    images: int = 8
    """Images of noise on which the two must agree."""
    max_new_tokens: int = 32
    """Longest description of these, in tokens."""
    tolerance: float = 0.05
    """Largest error of the logits that is let pass, as a share of what the adapter changes in them; it comes from
    rounding the merged weights to the base's data type."""
    caption_tolerance: float = 0.25
    """Largest share of greedy descriptions that may differ."""
    push: str | None = None
    """Also upload to the hub as OWNER/NAME, private if it is new; nothing is sent otherwise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    seed: int = 2024
    """Seed of the noise."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("images", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")
        for name in ("tolerance", "caption_tolerance"):
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name} {getattr(self, name)}: give 0 or more")
