"""One vector for a patch, as the vision tower of the model sees it."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch

from data.out_of_memory import run_in_batches
from vlm_finetune.encode import encode_prompts
from vlm_finetune.model import LoadedModel
from vlm_finetune.parts import base_of

_BATCH = 16


@torch.inference_mode()
def embed_images(loaded: LoadedModel, images: Sequence[np.ndarray]) -> np.ndarray:
    """Means over the image tokens of `images` (RGB uint8 of any size), float32 (N, D)."""
    model = base_of(loaded.model)
    wanted = set(inspect.signature(model.base_model.get_image_features).parameters)

    def embed(some: Sequence[np.ndarray]) -> list[np.ndarray]:
        encoded = encode_prompts(some, loaded.prompt, loaded.processor)
        inputs = {key: value.to(model.device) for key, value in encoded.items() if key in wanted}
        inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        tokens = model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
        return [one.float().mean(0).cpu().numpy() for one in tokens]

    batches, _ = run_in_batches(embed, images, size=_BATCH, name="looking for patches that are nearly alike")
    return np.stack([vector for batch in batches for vector in batch])
