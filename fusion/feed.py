"""What a step gives to the model: pixels or cached features, tokens or cached features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.augment import AugmentParameters, augment
from fusion.images import PatchImages
from fusion.patches import Patches
from fusion.sentences import reorder
from fusion.tower import TextTower


@dataclass(frozen=True)
class Batch:
    """One process's part of a step."""

    rows: np.ndarray
    """(N,) rows of the patches."""
    inputs: dict[str, Any]
    """Arguments of `FusionModel.forward`."""
    honest_text: Tensor
    """(N,) 1 where the text belongs to the patch."""


@dataclass
class Feed:
    """Rows to batches on a device; where a tower is frozen its features are kept and nothing else is read."""

    patches: Patches
    images: PatchImages
    ids: list[list[int]]
    """Tokens of every patch's text, and of the empty text last."""
    text_tower: TextTower
    device: torch.device
    sentences: list[list[int]] | None = None
    """Where the sentences of each of `ids` lie (see `sentence_bounds`), where their order is to change."""
    image_features: Tensor | None = None
    """(N, Dv) while the image tower is frozen."""
    text_features: Tensor | None = None
    """(N + 1, Dt) while the text tower is frozen."""

    def __post_init__(self) -> None:
        """Rows without text share the empty text, which has the last index."""
        rows = np.arange(len(self.patches))
        missing = np.array([text is None for text in self.patches.texts])
        self.own_text = np.where(missing, len(self.patches), rows)

    def batches(
        self,
        batches: list[np.ndarray],
        *,
        texts: list[np.ndarray] | None = None,
        augment_with: list[AugmentParameters] | None = None,
        sentence_seeds: list[np.ndarray] | None = None,
        cut: Callable[[int, int, list[int]], list[int]] | None = None,
    ) -> Iterator[Batch]:
        """Batches of the given rows.

        Args:
            texts: for each batch the rows whose text is used, -1 for none; by default each row's own.
            augment_with: for each batch how its patches are changed; by default they are not.
            sentence_seeds: for each batch the seeds of the order of its texts' sentences; by default that of the text.
            cut: given a batch, a place in it and the tokens of its text, what is left of them; by default all. Features
                of a frozen text tower are of whole texts.
        """
        pixels = iter(self.images.batches(batches)) if self.image_features is None else None
        for step, rows in enumerate(batches):
            own = self.own_text[rows]
            used = own
            if texts is not None:
                used = np.where(texts[step] < 0, len(self.patches), self.own_text[texts[step]])
            has_text = torch.from_numpy(used != len(self.patches)).to(self.device)
            inputs: dict[str, Any] = {"has_text": has_text}
            if pixels is None:
                assert self.image_features is not None
                inputs["image"] = self.image_features[torch.from_numpy(rows).to(self.device)]
            else:
                square = next(pixels)
                inputs["pixels"] = augment(square, augment_with[step]) if augment_with is not None else square
                inputs["pixels"] = inputs["pixels"].to(self.device)
            if self.text_features is not None:
                inputs["text"] = self.text_features[torch.from_numpy(used).to(self.device)]
            else:
                ids = [self.ids[index] for index in used]
                if sentence_seeds is not None and self.sentences is not None:
                    bounds = [self.sentences[index] for index in used]
                    ids = [reorder(*one) for one in zip(ids, bounds, sentence_seeds[step], strict=True)]
                if cut is not None:
                    ids = [cut(step, place, one) for place, one in enumerate(ids)]
                tokens = self.text_tower.tokenizer.collate(ids)
                inputs["tokens"] = {name: tensor.to(self.device) for name, tensor in tokens.items()}
            honest = (used == own) & (used != len(self.patches))
            yield Batch(rows=rows, inputs=inputs, honest_text=torch.from_numpy(honest).float().to(self.device))
