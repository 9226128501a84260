"""How far a merged model is from the base with its adapter: logits and greedy descriptions of images of noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vlm_finetune.decoding import Decoding
from vlm_finetune.encode import encode_prompts
from vlm_finetune.generate import generate
from vlm_finetune.prompt import PatchPrompt


@dataclass(frozen=True)
class Answers:
    """What a model says to some images."""

    logits: list[torch.Tensor]
    """Of each image, at every position of the prompt, float32 (L, V) on the CPU."""
    texts: list[str]


@dataclass(frozen=True)
class Parity:
    """Difference of a merged model from the base with its adapter."""

    relative_error: float
    """Root mean square of the difference of the logits, as a share of that between adapter and base."""
    largest_difference: float
    """Largest absolute difference of a logit."""
    differing_captions: float
    """Share of greedy descriptions that are not the same."""
    images: int


def noise_images(count: int, *, side: int, seed: int) -> list[np.ndarray]:
    """RGB uint8 (side, side, 3) of noise, each coarser than the one before, so that the model sees more than one."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        cells = max(2, side >> (index % 5))
        block = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        where = np.arange(side) * cells // side
        images.append(block[where][:, where])
    return images


@torch.inference_mode()
def answer(
    model: Any, processor: Any, prompt: PatchPrompt, images: Sequence[np.ndarray], *, max_new_tokens: int
) -> Answers:
    """Ask `model` about each of `images`, one at a time."""
    logits, texts = [], []
    for image in images:
        inputs = {key: value.to(model.device) for key, value in encode_prompts([image], prompt, processor).items()}
        inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        logits.append(model(**inputs).logits[0].float().cpu())
        texts.append(generate(model, processor, prompt, [image], Decoding(max_new_tokens=max_new_tokens))[0].text)
    return Answers(logits, texts)


def compare(*, merged: Answers, adapted: Answers, base: Answers) -> Parity:
    """How far `merged` is from `adapted`, measured against how far `adapted` is from `base`."""
    wanted, got, before = (torch.cat(answers.logits) for answers in (adapted, merged, base))  # (sum of L, V)
    error = float((got - wanted).double().square().mean().sqrt())
    effect = float((wanted - before).double().square().mean().sqrt())
    return Parity(
        relative_error=error / effect,
        largest_difference=float((got - wanted).abs().max()),
        differing_captions=float(np.mean([a != b for a, b in zip(merged.texts, adapted.texts, strict=True)])),
        images=len(adapted.texts),
    )
