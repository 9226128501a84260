"""Encode one prompt with many patches: its text is tokenised once, only the images change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlm_finetune.encode import encode_prompts
from vlm_finetune.prompt import PatchPrompt

# Tensors (N, L) with a column per token; all others belong to the images.
_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class PromptEncoder:
    """Tensors of one prompt, for any patches.

    Args:
        prompt: asked about every patch.
        processor: of the model.

    Raises:
        InputError: the processor does not show the patch at the prompt's size, or has no place for it.
    """

    def __init__(self, prompt: PatchPrompt, processor: Any) -> None:
        self.prompt = prompt
        self.processor = processor
        noise = list(np.random.default_rng(0).integers(0, 256, (2, *[prompt.image_px] * 2, 3), dtype=np.uint8))
        whole = encode_prompts(noise, prompt, processor)
        self.tokens = {key: value[:1] for key, value in whole.items() if key in _PER_TOKEN}
        """Tensors (1, L) with a column per token, the same for every patch."""
        self._of_images = set(whole) - set(_PER_TOKEN)
        direct = self._image_processor(noise)
        # Some processors do more with an image than their image processor does.
        self._direct = direct.keys() == self._of_images and all(torch.equal(direct[key], whole[key]) for key in direct)

    @property
    def length(self) -> int:
        """Tokens of the prompt, those of the image included."""
        return int(self.tokens["input_ids"].shape[1])

    @property
    def before_image(self) -> int:
        """Tokens ahead of those of the image: they do not depend on the patch."""
        places = [token for token in self.processor.image_token_ids if token is not None]
        return int(torch.isin(self.tokens["input_ids"][0], torch.tensor(places)).int().argmax())

    def images(self, images: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Tensors of `images` (RGB uint8 of any size), as the model takes them beside `tokens`."""
        if self._direct:
            return self._image_processor(images)
        whole = encode_prompts(images, self.prompt, self.processor)
        return {key: value for key, value in whole.items() if key in self._of_images}

    def _image_processor(self, images: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        shown = [[Image.fromarray(self.prompt.resize(image))] for image in images]
        settings = getattr(self.processor, "images_kwargs", {})
        found = self.processor.image_processor(shown, return_tensors="pt", **settings)
        return {key: value for key, value in found.items() if key in self._of_images}
