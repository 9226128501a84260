"""Draw tokens so that a patch's text depends on its own pixels and seed, not on order, batch or process."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from data.atomic import digest
from vlm_finetune.decoding import Decoding


def row_seed(image: np.ndarray, seed: int) -> int:
    """Seed of one patch's sampling, from its pixels."""
    return int(digest(str(seed), np.ascontiguousarray(image).tobytes())[:15], 16)


def row_generator(image: np.ndarray, decoding: Decoding) -> torch.Generator | None:
    """Source of one patch's noise; None where `decoding` is greedy."""
    if decoding.temperature <= 0:
        return None
    return torch.Generator().manual_seed(row_seed(image, decoding.seed))


def warpers(decoding: Decoding) -> list[LogitsProcessor]:
    """What is done to the scores of rows that are sampled, in order."""
    found: list[LogitsProcessor] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_k > 0:
        found.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        found.append(TopPLogitsWarper(decoding.top_p))
    return found


def gumbel_noise(generators: Sequence[torch.Generator], like: torch.Tensor) -> torch.Tensor:
    """Noise for scores `like` (N, V), a row from each of `generators`: the largest noisy score is a sample."""
    noise = torch.stack([torch.rand(like.shape[1], generator=generator) for generator in generators])
    return (-torch.log(-torch.log(noise.clamp(1e-7, 1 - 1e-7)))).to(like)
