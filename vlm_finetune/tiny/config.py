"""Settings of the embedded model's build."""

from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Build the embedded vision-language model."""

    out: Path = WEIGHTS
    """Folder of the model."""
    patches: int = 10_000
    """Synthetic patches to learn from."""
    held_out: int = 400
    """Further patches, of other patients, that the model card's figures are measured on."""
    vision_steps: int = 1500
    """Steps in which the vision tower learns the findings."""
    caption_steps: int = 420
    """Steps in which the whole model learns to state them."""
    batch_size: int = 32
    """Patches per step."""
    vision_rate: float = 1e-3
    """Peak learning rate of the vision tower."""
    caption_rate: float = 2e-3
    """Peak learning rate of the language model."""
    threads: int = 2
    """Threads; another number may round differently and give other weights."""
    seed: int = 7
    """Seed of tissue, weights and order."""
