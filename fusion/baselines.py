"""Simpler ways to fuse, for honest tables beside PRMF."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from fusion.block import FusionBlock, FusionOutput


class Baseline(FusionBlock):
    """A block with normalised features and a head for each modality; without text it answers as its image head does.

    Where a kind of fusion has no trust in the text of its own, the gate says a half where there is text.
    """

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.image_norm = nn.LayerNorm(image_dim)
        self.text_norm = nn.LayerNorm(text_dim)
        self.image_head = nn.Linear(image_dim, classes)
        self.text_head = nn.Linear(text_dim, classes)

    def forward(self, *, image: Tensor, text: Tensor, has_text: Tensor) -> FusionOutput:
        """Fuse `image` (N, Dv) with `text` (N, Dt) where `has_text` (N,) is true, and pass the image on elsewhere."""
        present = has_text.unsqueeze(1)
        image, text = self.image_norm(image), self.text_norm(text)
        alone, written = self.image_head(image), self.text_head(text)
        fused, gate = self.fuse(image=image, text=text, image_logits=alone, text_logits=written)
        return FusionOutput(
            fused=torch.where(present, fused, alone),
            image=alone,
            text=written * present,
            gate=gate * has_text,
        )

    @abstractmethod
    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and gate (N,) of rows that all have text."""


class ImageOnly(Baseline):
    """The image alone, whatever the text says."""

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The image's logits, and no trust."""
        return image_logits, torch.zeros_like(image_logits[:, 0])


class TextOnly(Baseline):
    """The text alone; the image only where there is none."""

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The text's logits, and full trust."""
        return text_logits, torch.ones_like(image_logits[:, 0])


class LateAverage(Baseline):
    """Both modalities classify by themselves; their logits are averaged."""

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the logits."""
        return (image_logits + text_logits) / 2, torch.full_like(image_logits[:, 0], 0.5)


class Concatenation(Baseline):
    """Both feature vectors side by side into a classifier with a hidden layer."""

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.classify = _classifier(image_dim + text_dim, hidden, classes, dropout)

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of [v; t]."""
        return self.classify(torch.cat([image, text], dim=1)), torch.full_like(image_logits[:, 0], 0.5)


class CrossAttention(Baseline):
    """The image attends to the text, and a learnt gate lets the answer in (after arXiv 2204.14198).

    Each tower gives one vector, so that attention over the text has one place to look: what is left of it is its value
    map, weighed against the image's own vector.
    """

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.query, self.key_image = nn.Linear(image_dim, hidden), nn.Linear(image_dim, hidden)
        self.key_text, self.value_text = nn.Linear(text_dim, hidden), nn.Linear(text_dim, hidden)
        self.value_image = nn.Linear(image_dim, hidden)
        self.classify = _classifier(hidden, hidden, classes, dropout)

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the attended vector, and the attention that the text got."""
        query = self.query(image) / self.hidden**0.5
        scores = torch.stack([(query * self.key_image(image)).sum(1), (query * self.key_text(text)).sum(1)], dim=1)
        gate = scores.softmax(dim=1)[:, 1]
        attended = (1 - gate).unsqueeze(1) * self.value_image(image) + gate.unsqueeze(1) * self.value_text(text)
        return self.classify(attended), gate


class Film(Baseline):
    """The text scales and shifts the image's features (FiLM, arXiv 1709.07871)."""

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.modulate = nn.Linear(text_dim, 2 * image_dim)
        self.classify = _classifier(image_dim, hidden, classes, dropout)

    def fuse(self, *, image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of (1 + gamma(t)) v + beta(t)."""
        scale, shift = self.modulate(text).chunk(2, dim=1)
        return self.classify((1 + scale) * image + shift), torch.full_like(image_logits[:, 0], 0.5)


def _classifier(width: int, hidden: int, classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))
