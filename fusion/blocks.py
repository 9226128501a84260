"""The fusion blocks by name."""

from data.errors import InputError
from fusion.baselines import Concatenation, CrossAttention, Film, ImageOnly, LateAverage, TextOnly
from fusion.block import FusionBlock
from fusion.prmf import PaperPrmf, Prmf

BLOCKS: dict[str, type[FusionBlock]] = {
    "prmf": Prmf,
    "prmf-paper": PaperPrmf,
    "image-only": ImageOnly,
    "text-only": TextOnly,
    "late-average": LateAverage,
    "concatenation": Concatenation,
    "cross-attention": CrossAttention,
    "film": Film,
}


def build_block(
    name: str, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3
) -> FusionBlock:
    """Build the block called `name`.

    Raises:
        InputError: no such block.
    """
    if name not in BLOCKS:
        raise InputError(f"block {name} is unknown; use {', '.join(BLOCKS)}")
    return BLOCKS[name](image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
