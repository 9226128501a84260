"""What every engine that describes patches has in common: the key of a text, alternatives, and their order."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from data.atomic import digest
from vlm_finetune.decoding import Caption, Decoding, Request
from vlm_finetune.prompt import PatchPrompt

Item = TypeVar("Item")


class Describer(ABC):
    """Describes patches, any number of them."""

    prompt: PatchPrompt
    decoding: Decoding
    key: str
    """Hash of all that decides a text, but for the pixels."""
    batch_size: int
    """About how many patches are asked for at a time."""

    @abstractmethod
    def write(self, requests: Iterator[Request[Any]]) -> Iterator[tuple[Request[Any], Caption]]:
        """Texts of `requests`, in any order; takes in no more of them than there is room for."""

    @abstractmethod
    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """What the vision tower makes of `images` (RGB uint8), float32 (N, D)."""

    def stream(self, patches: Iterable[tuple[Item, np.ndarray]]) -> Iterator[tuple[Item, Caption]]:
        """Captions of `patches` (each known by anything, RGB uint8 (H, W, 3) of any size), as they are finished.

        Patches are taken in as there is room for them, so that there may be any number.
        """
        draws = self.decoding.draws()
        requests = (
            Request((number, draw, item), image, decoding)
            for number, (item, image) in enumerate(patches)
            for draw, decoding in enumerate(draws)
        )
        unfinished: dict[int, dict[int, Caption]] = {}
        for request, caption in self.write(requests):
            number, draw, item = request.item
            texts = unfinished.setdefault(number, {})
            texts[draw] = caption
            if len(texts) == len(draws):
                del unfinished[number]
                yield item, replace(texts[0], alternatives=tuple(texts[one].text for one in range(1, len(draws))))

    def describe(self, images: Sequence[np.ndarray]) -> list[Caption]:
        """Captions of `images`, in their order."""
        found = dict(self.stream(enumerate(images)))
        return [found[index] for index in range(len(images))]

    def row_key(self, image: np.ndarray) -> str:
        """Hash of all that decides the caption of `image`: pixels, prompt, model, adapter, data type, decoding."""
        return digest(self.key, str(image.shape), np.ascontiguousarray(image).tobytes())
