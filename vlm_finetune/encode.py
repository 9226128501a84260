"""Turn patches and their prompt into the tensors a model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError

from data.errors import InputError
from vlm_finetune.prompt import PatchPrompt

# Switches by which image processors cut one image into several; a patch is square and small, and is to be seen whole.
_CUTTING = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan", "split_image")


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
    encoded = apply_template(
        processor,
        conversations,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )
    check_image_size(encoded, prompt, processor)
    return dict(encoded)


def apply_template(processor: Any, conversations: Sequence[Any], **settings: Any) -> Any:
    """What the chat template of `processor` makes of one conversation or several.

    Raises:
        InputError: there is no template, or it has no place for the image or one of the roles.
    """
    try:
        return processor.apply_chat_template(conversations, **settings)
    except (TemplateError, ValueError) as error:
        raise InputError(
            f"{type(processor).__name__}: its chat template cannot take the prompt ({' '.join(str(error).split())}); "
            "try an empty --system, or give the model another chat_template.jinja"
        ) from error


def set_image_size(processor: Any, image_px: int) -> None:
    """Make a processor show a patch of `image_px` on a side whole and at its size, where it has settings for that."""
    settings = image_settings(processor, image_px)
    if "size" in settings:
        processor.image_processor.size = settings.pop("size")
    # What a processor hands to its image processor has precedence over the latter's own settings.
    processor.images_kwargs = {**getattr(processor, "images_kwargs", {}), **settings}


def image_settings(processor: Any, image_px: int) -> dict[str, Any]:
    """Settings by which the image processor of `processor` shows a patch of `image_px` whole and at its size."""
    images = processor.image_processor
    settings: dict[str, Any] = dict.fromkeys((name for name in _CUTTING if hasattr(images, name)), False)
    if _factor(images) is not None:
        side = _expected_px(images, image_px)
        settings["size"] = {"shortest_edge": side**2, "longest_edge": side**2}
    return settings


def check_image_size(encoded: dict[str, torch.Tensor], prompt: PatchPrompt, processor: Any) -> None:
    """Make sure of the size that the tower will see, since some processors ignore their limits, and of its tokens.

    Raises:
        InputError: the patch is not seen at the prompt's size, or has no or not as many tokens as another patch.
    """
    name, images = type(processor).__name__, processor.image_processor
    grids, pixels = encoded.get("image_grid_thw"), encoded.get("pixel_values")
    if grids is not None and _factor(images) is not None:
        side = _expected_px(images, prompt.image_px) // images.patch_size
        if not torch.equal(grids[:, 1:], torch.full_like(grids[:, 1:], side)):
            raise InputError(
                f"{name}: makes {grids[0].tolist()} patches of an image, not {side} × {side}; set --image_px"
            )
    elif pixels is not None and pixels.ndim >= 4 and pixels.shape[-1] < prompt.image_px:
        # Pixels (…, 3, H, W) for a tower of fixed size: a smaller patch is made larger and loses nothing.
        side = pixels.shape[-1]
        raise InputError(f"{name}: shows the model {side} px, not {prompt.image_px}; set --image_px {side} or less")
    places = [token for token in getattr(processor, "image_token_ids", ()) if token is not None]
    counts = torch.isin(encoded["input_ids"], torch.tensor(places)).sum(1)
    if not places or not counts.all() or len(counts.unique()) > 1:
        raise InputError(
            f"{name}: gives patches {sorted(set(counts.tolist()))} image tokens, not all the same number above 0; "
            "give the model a chat_template.jinja with a place for the image"
        )


def _factor(images: Any) -> int | None:
    merge, patch = getattr(images, "merge_size", None), getattr(images, "patch_size", None)
    return merge * patch if isinstance(merge, int) and isinstance(patch, int) else None


def _expected_px(images: Any, image_px: int) -> int:
    factor = _factor(images)
    assert factor is not None
    return max(1, round(image_px / factor)) * factor
