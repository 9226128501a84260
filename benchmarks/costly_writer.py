"""A writer that costs what a large model costs: it writes as many tokens, and the embedded model's captions."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vlm_finetune.captioner import Captioner
from vlm_finetune.continuous_batch import ContinuousBatch
from vlm_finetune.decoding import Caption, Decoding, Request
from vlm_finetune.tiny.architecture import Size, build_model

SIZE = Size(
    vision_width=640,
    vision_depth=8,
    vision_heads=8,
    text_width=768,
    text_depth=12,
    text_heads=12,
    text_inner=2048,
)


class CostlyWriter:
    """Stands in for a Captioner.

    A Qwen2.5-VL with random weights reads the same prompt and image, and really writes as many tokens for each patch
    as the embedded model did, whose caption is the one that is given back.
    """

    def __init__(self, captioner: Captioner, *, size: Size = SIZE, seed: int = 0) -> None:
        self.captioner = captioner
        self.model = build_model(captioner.loaded.processor, size, seed=seed).eval()
        self.rows: ContinuousBatch[int] = ContinuousBatch(
            self.model,
            captioner.loaded.processor,
            captioner.prompt,
            max_new_tokens=captioner.decoding.max_new_tokens,
            size=captioner.batch_size,
        )
        # Random weights end a text at random; here its length is given.
        self.rows.ends = frozenset()
        self.tokens = 0
        self.patches = 0
        self.seconds = 0.0
        self.embedded_seconds = 0.0

    @property
    def parameters(self) -> int:
        """Weights of the large model."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @torch.inference_mode()
    def describe(self, images: Sequence[np.ndarray]) -> list[Caption]:
        """Captions of `images`, in their order."""
        started = time.perf_counter()
        captions = self.captioner.describe(images)
        self.embedded_seconds += time.perf_counter() - started
        decoding = replace(Decoding(), max_repeats=0)
        requests = (
            Request(index, image, replace(decoding, max_new_tokens=caption.tokens))
            for index, (image, caption) in enumerate(zip(images, captions, strict=True))
        )
        started = time.perf_counter()
        written = {request.item: caption.tokens for request, caption in self.rows.run(requests)}
        self.seconds += time.perf_counter() - started
        assert [written[index] for index in range(len(captions))] == [caption.tokens for caption in captions]
        self.tokens += sum(written.values())
        self.patches += len(captions)
        return captions
