"""Turn patches and their prompt into the tensors a model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from data.errors import InputError
from vlm_finetune.prompt import PatchPrompt


def encode_prompts(images: Sequence[np.ndarray], prompt: PatchPrompt, processor: Any) -> dict[str, torch.Tensor]:
    """Tensors of one batch, ending where the answer begins; token ids of shape (N, L), padded on the left.

    Args:
        images: RGB uint8 (H, W, 3) of any size.
    """
    from PIL import Image

    conversations = []
    for image in images:
        messages = prompt.messages()
        patch = Image.fromarray(prompt.resize(image))
        messages[-1]["content"] = [{"type": "image", "image": patch}, *messages[-1]["content"][1:]]
        conversations.append(messages)
    encoded = processor.apply_chat_template(
        conversations,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    check_image_size(encoded, prompt, processor)
    return dict(encoded)


def set_image_size(processor: Any, image_px: int) -> None:
    """Make an image processor that limits pixels by area keep a patch of `image_px` on a side."""
    images = processor.image_processor
    if _factor(images) is not None:
        side = _expected_px(images, image_px)
        images.size = {"shortest_edge": side**2, "longest_edge": side**2}


def check_image_size(encoded: dict[str, torch.Tensor], prompt: PatchPrompt, processor: Any) -> None:
    """Make sure of the size that the tower will see, where the model says it: some processors ignore their limits."""
    grids = encoded.get("image_grid_thw")
    if grids is None or _factor(processor.image_processor) is None:
        return
    side = _expected_px(processor.image_processor, prompt.image_px) // processor.image_processor.patch_size
    if not torch.equal(grids[:, 1:], torch.full_like(grids[:, 1:], side)):
        raise InputError(
            f"the processor made {grids[0].tolist()} patches of an image, not {side} × {side}; set --image_px"
        )


def _factor(images: Any) -> int | None:
    merge, patch = getattr(images, "merge_size", None), getattr(images, "patch_size", None)
    return merge * patch if isinstance(merge, int) and isinstance(patch, int) else None


def _expected_px(images: Any, image_px: int) -> int:
    factor = _factor(images)
    assert factor is not None
    return max(1, round(image_px / factor)) * factor
