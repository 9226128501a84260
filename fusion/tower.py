"""The interface of a tower: pixels or text in, one feature vector per row out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fusion.record import Framing, TowerRecord

Tokens = dict[str, Tensor]


class Tokenizer(Protocol):
    """Text to token ids and to padded batches."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the tower's length."""

    def collate(self, ids: Sequence[Sequence[int]]) -> Tokens:
        """Batch of ids padded on the right, each tensor (N, L)."""

    def save(self, folder: Path) -> None:
        """Write the files that build this tokenizer again."""


class ImageTower(nn.Module):
    """Encoder of patches; normalises by its record's mean and standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, record: TowerRecord, body: nn.Module, build: dict[str, Any], save: Callable[[Path], None] | None = None
    ) -> None:
        """Wrap `body`, which maps normalised pixels (N, 3, S, S) to features (N, D).

        Args:
            build: what the loader needs to build the architecture again without weights (JSON).
            save: writes files that building needs beside `build`.
        """
        super().__init__()
        assert record.mean is not None and record.std is not None and record.dim is not None
        self.record = record
        self.body = body
        self.build = build
        self.save_files = save
        self.bf16 = False
        """Whether the body multiplies in bfloat16."""
        self.register_buffer("mean", torch.tensor(record.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(record.std).view(1, 3, 1, 1), persistent=False)

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        assert self.record.dim is not None
        return self.record.dim

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        assert self.record.image_size is not None
        return self.record.image_size

    @property
    def framing(self) -> Framing:
        """How a patch is brought to the tower's input."""
        return Framing(
            size=self.image_size,
            resize=self.record.resize or self.image_size,
            interpolation=self.record.interpolation or "bilinear",
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (N, D) of RGB `pixels` (N, 3, S, S), uint8 or float in [0, 1]."""
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        normal = (pixels - self.mean) / self.std
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features: Tensor = self.body(normal.contiguous(memory_format=torch.channels_last))
        return features.float()


class TextTower(nn.Module):
    """Encoder of text, with its tokenizer."""

    def __init__(
        self,
        *,
        record: TowerRecord,
        body: nn.Module,
        tokenizer: Tokenizer,
        build: dict[str, Any],
        save: Callable[[Path], None] | None = None,
    ) -> None:
        """Wrap `body`, which maps a batch of tokens to features (N, D)."""
        super().__init__()
        assert record.dim is not None and record.text_length is not None
        self.record = record
        self.body = body
        self.tokenizer = tokenizer
        self.build = build
        self.save_files = save
        self.bf16 = False
        """Whether the body multiplies in bfloat16."""

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        assert self.record.dim is not None
        return self.record.dim

    def forward(self, tokens: Tokens) -> Tensor:
        """Features (N, D) of a batch made by the tokenizer's `collate`."""
        with torch.autocast(tokens["input_ids"].device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features: Tensor = self.body(tokens)
        return features.float()
