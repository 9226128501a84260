"""The Progressive Robust Multi-Modal Fusion block (PRMF, arXiv 2503.12927) and what is learnt beside it."""

import torch
from torch import Tensor, nn

from fusion.block import FusionBlock, FusionOutput


class PaperPrmf(FusionBlock):
    """PRMF as published.

    w = sigmoid(W2 ReLU(W1 [t; v])), f = w t + (1 - w) W v, logits = W3 dropout(ReLU(f)); with VGG16 and BERT-base,
    [t; v] has 512 + 768 = 1280 elements. The image head gives the image loss of the curriculum. The text head is a
    probe on detached features: text-only accuracy is known and training is what it would be without it.
    """

    knows_missing_text = False
    keeps_image_loss = False

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.gate = nn.Sequential(nn.Linear(text_dim + image_dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.project = nn.Linear(image_dim, text_dim)
        self.classify = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(text_dim, classes))
        self.image_head = nn.Linear(image_dim, classes)
        self.text_head = nn.Linear(text_dim, classes)

    def forward(self, *, image: Tensor, text: Tensor, has_text: Tensor) -> FusionOutput:
        """Fuse `image` (N, Dv) with `text` (N, Dt).

        Args:
            has_text: (N,) bool. The published block has no notion of missing text: the empty text is fused like any
                other, and only the probe leaves it out.
        """
        gate = torch.sigmoid(self.gate(torch.cat([text, image], dim=1)))  # (N, Dt + Dv) -> (N, 1)
        fused = gate * text + (1 - gate) * self.project(image)
        return FusionOutput(
            fused=self.classify(fused),
            image=self.image_head(image),
            text=self.text_head(text.detach()) * has_text.unsqueeze(1),
            gate=gate.squeeze(1),
        )


class Prmf(PaperPrmf):
    """PRMF with missing text as an input of its own.

    Where there is no text the gate is 0 and the result is that of the image head. Features are normalised, so that the
    gate weighs their content and not their scale. The text head trains the text tower, and the image head goes on
    training the image tower where the curriculum's image loss has ended.
    """

    knows_missing_text = True
    keeps_image_loss = True

    def __init__(self, *, image_dim: int, text_dim: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(image_dim=image_dim, text_dim=text_dim, classes=classes, hidden=hidden, dropout=dropout)
        self.image_norm = nn.LayerNorm(image_dim)
        self.text_norm = nn.LayerNorm(text_dim)

    def forward(self, *, image: Tensor, text: Tensor, has_text: Tensor) -> FusionOutput:
        """Fuse `image` (N, Dv) with `text` (N, Dt) where `has_text` (N,) is true, and pass the image on elsewhere."""
        present = has_text.unsqueeze(1).to(text.dtype)  # (N, 1)
        image = self.image_norm(image)
        text = self.text_norm(text) * present
        gate = torch.sigmoid(self.gate(torch.cat([text, image], dim=1))) * present
        fused = gate * text + (1 - gate) * self.project(image)
        alone = self.image_head(image)
        return FusionOutput(
            fused=torch.where(has_text.unsqueeze(1), self.classify(fused), alone),
            image=alone,
            text=self.text_head(text) * present,
            gate=gate.squeeze(1),
        )
