"""What every fusion block has in common: features of both modalities in, logits and a gate out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class FusionOutput:
    """What a fusion block says about N patches and C classes."""

    fused: Tensor
    """Logits (N, C) from image and text together."""
    image: Tensor
    """Logits (N, C) from the image alone."""
    text: Tensor
    """Logits (N, C) from the text alone; zero where there is no text."""
    gate: Tensor
    """Trust in the text w in [0, 1], shape (N,)."""


class FusionBlock(nn.Module, ABC):
    """Fuses the features of an image tower and a text tower.

    Args:
        image_dim: features of the image tower.
        text_dim: features of the text tower.
        classes: number of classes.
        hidden: width of the block's hidden layer.
        dropout: in front of the fused classifier.
    """

    knows_missing_text: ClassVar[bool] = True
    """Whether the block itself answers from the image where there is no text."""
    keeps_image_loss: ClassVar[bool] = True
    """Whether the image's loss keeps its whole weight while alpha moves to the fused one. Text explains most of the
    training rows, so that an image tower that learns through the fused loss alone stays weak without it."""

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.image_dim = image_dim
        self.text_dim = text_dim
        self.classes = classes
        self.hidden = hidden
        self.dropout = dropout

    def image_loss_weight(self, alpha: float) -> float:
        """Weight of the image's loss where the fused one weighs `alpha`."""
        return 1.0 if self.keeps_image_loss else 1 - alpha

    @abstractmethod
    def forward(self, *, image: Tensor, text: Tensor, has_text: Tensor) -> FusionOutput:
        """Fuse `image` (N, Dv) with `text` (N, Dt) where `has_text` (N,) is true."""
