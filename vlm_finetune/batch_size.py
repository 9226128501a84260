"""How many texts may be written at once: an estimate to begin with, since running out of memory halves it."""

from typing import Any

import psutil
import torch

from vlm_finetune.parts import base_of

# More rows than this bring no speed: on a CPU as measured by `make bench-caption`, on a GPU by common experience.
_MOST = {"cpu": 256, "cuda": 1024}
# Share of the free memory that may be used: a CPU has no error to halve on, it swaps or kills.
_SHARE = {"cpu": 0.25, "cuda": 0.7}
_PROMPT_TOKENS = 512


def fitting_batch(model: Any, *, max_new_tokens: int) -> int:
    """Rows, a power of two, whose keys, values, scores and prompts should fit into the free memory of `model`'s device.

    A prompt is taken to have 512 tokens; no model is run.
    """
    device = base_of(model).device
    kind = device.type if device.type in _MOST else "cpu"
    free = torch.cuda.mem_get_info(device)[0] if kind == "cuda" else psutil.virtual_memory().available
    room = free * _SHARE[kind] / row_bytes(model, positions=_PROMPT_TOKENS + max_new_tokens)
    rows = 1
    while 2 * rows <= min(room, _MOST[kind]):
        rows *= 2
    return rows


def row_bytes(model: Any, *, positions: int) -> int:
    """Memory of one text of `positions` tokens: its keys and values, the scores of a token, a part of its prompt."""
    base = base_of(model)
    text = base.config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    each = base.dtype.itemsize
    kept = 2 * text.num_hidden_layers * heads * width * each * positions
    # In the model's type, in float32, and once more while they are summed.
    scores = text.vocab_size * (each + 4 + 4)
    # An eighth of the rows read their prompt at a time; a layer holds its input and three times its inner width.
    prompt = positions * (4 * text.hidden_size + 3 * text.intermediate_size) * each // 8
    return int(kept + scores + prompt)
