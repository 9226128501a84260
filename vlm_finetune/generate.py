"""Batched generation whose text does not depend on the batch, with a log-probability for every row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
)

from vlm_finetune.collate import AnswerForm
from vlm_finetune.decoding import CUT, LOOP, Caption, Decoding
from vlm_finetune.encode import encode_prompts
from vlm_finetune.loop_guard import LoopGuard
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.sampling import gumbel_noise, row_seed, warpers


@torch.inference_mode()
def generate(
    model: Any,
    processor: Any,
    prompt: PatchPrompt,
    images: Sequence[np.ndarray],
    decoding: Decoding,
) -> list[Caption]:
    """Describe `images` (RGB uint8, any size) in one batch, in their order."""
    if not images:
        return []
    inputs = {key: value.to(model.device) for key, value in encode_prompts(images, prompt, processor).items()}
    inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    start = inputs["input_ids"].shape[1]
    ends = end_ids(model, processor, prompt)
    pad_id = processor.tokenizer.pad_token_id if processor.tokenizer.pad_token_id is not None else ends[0]
    record = _Record(start)
    processors = LogitsProcessorList([record])
    if decoding.repetition_penalty != 1.0:
        # The prompt is no part of what may not be repeated: it holds the very words that a description needs.
        processors.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty, prompt_ignore_length=start))
    if decoding.temperature > 0:
        processors += warpers(decoding)
        processors.append(_RowNoise([row_seed(image, decoding.seed) for image in images]))
    guard = LoopGuard(start, max_repeats=decoding.max_repeats, ends=ends)
    sequences = model.generate(
        **inputs,
        stopping_criteria=StoppingCriteriaList([guard] if decoding.max_repeats else []),
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        # Models ship sampling settings of their own; here only `decoding` speaks.
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
        eos_token_id=ends,
        pad_token_id=pad_id,
        logits_processor=processors,
        use_cache=True,
    )
    written = sequences[:, start:]  # (N, T)
    lengths, ended = _lengths(written, ends)
    for row, kept in guard.kept.items():
        lengths[row] = kept
    logprobs = record.logprobs(sequences)  # (N, T)
    inside = torch.arange(written.shape[1], device=written.device)[None] < lengths[:, None]
    means = (logprobs * inside).sum(1) / lengths
    texts = processor.tokenizer.batch_decode(
        [row[:length] for row, length in zip(written, lengths.tolist(), strict=True)], skip_special_tokens=True
    )
    flags = [(LOOP,) if row in guard.kept else () if whole else (CUT,) for row, whole in enumerate(ended.tolist())]
    return [
        Caption(text.strip(), tokens, mean, error=None if text.strip() else "the model wrote nothing", flags=odd)
        for text, tokens, mean, odd in zip(texts, lengths.tolist(), means.tolist(), flags, strict=True)
    ]


def end_ids(model: Any, processor: Any, prompt: PatchPrompt) -> list[int]:
    """Tokens that end a turn: those of the model and the one that training teaches."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known] if known is not None else []
    return sorted({AnswerForm.of(processor, prompt).end_id, *known})


def _lengths(written: torch.Tensor, ends: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of each row (N,), its end of turn included, the padding after it not; and whether there is an end (N,)."""
    ended = torch.isin(written, torch.tensor(ends, device=written.device))
    first = ended.int().argmax(1) + 1
    return torch.where(ended.any(1), first, written.shape[1]), ended.any(1)


class _Record(LogitsProcessor):
    """Keeps the log-probability of each chosen token; the choice of a step is seen at the next."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.latest: torch.Tensor | None = None
        self.kept: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._keep(input_ids)
        self.latest = scores.float().log_softmax(-1)  # (N, V)
        return scores

    def logprobs(self, sequences: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, T) of the tokens after the prompt in `sequences`."""
        self._keep(sequences)
        return torch.stack(self.kept, 1)

    def _keep(self, ids: torch.Tensor) -> None:
        if self.latest is not None:
            self.kept.append(self.latest.gather(1, ids[:, -1:]).squeeze(1))


class _RowNoise(LogitsProcessor):
    """Gumbel noise from a generator per row: the largest noisy score is a sample, and no row sees another's noise."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + gumbel_noise(self.generators, scores)
