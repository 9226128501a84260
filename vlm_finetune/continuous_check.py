"""Whether the rows of a batch can come and go for a model, proved on it rather than believed."""

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from vlm_finetune.continuous_batch import ContinuousBatch
from vlm_finetune.decoding import Decoding, Request
from vlm_finetune.generate import generate
from vlm_finetune.model import LoadedModel
from vlm_finetune.parts import base_of

_TOKENS = 6
_TRIALS = 3
# Mean log-probabilities differ by rounding; by far more where a position or a mask is wrong.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def can_run_continuously(loaded: LoadedModel) -> bool:
    """Whether texts about noise come out of continuous batching as `generate` writes them.

    Models with a window of attention, or with states beside keys and values, are not tried. Since rounding alone may
    turn a text at a tie, one trial in three is enough; a wrong position or mask would spoil each.
    """
    layers = DynamicCache(config=base_of(loaded.model).config.get_text_config(decoder=True)).layers
    if any(type(layer) is not DynamicLayer for layer in layers):
        return False
    return any(_largest_gap(loaded, seed) <= _TOLERANCE[loaded.dtype] for seed in range(_TRIALS))


def _largest_gap(loaded: LoadedModel, seed: int) -> float:
    """Between the mean log-probabilities that either way gives a text."""
    side = loaded.prompt.image_px
    images = list(np.random.default_rng(seed).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    decoding = Decoding(max_new_tokens=_TOKENS)
    expected = generate(loaded.model, loaded.processor, loaded.prompt, images, decoding)
    # Two places for three texts: the third takes the place of another while that beside it is half written.
    batch: ContinuousBatch[int] = ContinuousBatch(
        loaded.model, loaded.processor, loaded.prompt, max_new_tokens=_TOKENS, size=2
    )
    requests = [Request(index, image, decoding) for index, image in enumerate(images)]
    found = {request.item: caption for request, caption in batch.run(requests)}
    return max(abs(found[index].mean_logprob - one.mean_logprob) for index, one in enumerate(expected))
