"""Descriptions of a fixed handful of validation patches: text to read, and a score of their findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data.atomic import write_text
from data.findings import read_findings
from data.image import read_image
from data.taxonomy import Taxonomy
from vlm_finetune.finding_scores import FindingScores, finding_macro_f1
from vlm_finetune.generate import Caption, Decoding, generate
from vlm_finetune.pairs import Pair
from vlm_finetune.prompt import PatchPrompt

_BATCH = 16


@dataclass(frozen=True)
class Samples:
    """Generated descriptions of `pairs` and how well they state the findings."""

    pairs: Sequence[Pair]
    captions: Sequence[Caption]
    scores: FindingScores

    def write(self, path: Path) -> None:
        """Write each description beside the reference, as Markdown."""
        lines = [f"# Samples\n\nFinding macro-F1 {self.scores.macro_f1:.3f} on {len(self.pairs)} validation patches.\n"]
        for pair, caption in zip(self.pairs, self.captions, strict=True):
            written = caption.text or f"({caption.error})"
            lines.append(f"## {pair.patch_id}\n\n- reference: {pair.description}\n- written: {written}\n")
        write_text(path, "\n".join(lines))


def pick(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` pairs spread evenly over `pairs`: the same ones at every evaluation."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def describe_samples(
    model: Any, processor: Any, prompt: PatchPrompt, pairs: Sequence[Pair], *, max_new_tokens: int, taxonomy: Taxonomy
) -> Samples:
    """Describe `pairs` greedily and compare the findings stated with those known."""
    captions: list[Caption] = []
    for start in range(0, len(pairs), _BATCH):
        images = [read_image(pair.image) for pair in pairs[start : start + _BATCH]]
        captions += generate(model, processor, prompt, images, Decoding(max_new_tokens=max_new_tokens))
    stated = [read_findings(caption.text, taxonomy) for caption in captions]
    scores = finding_macro_f1([pair.findings for pair in pairs], stated, taxonomy)
    return Samples(pairs=pairs, captions=captions, scores=scores)


class SampleCallback(TrainerCallback):
    """Describes the same patches at every evaluation and writes them to `path`."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        processor: Any,
        prompt: PatchPrompt,
        taxonomy: Taxonomy,
        max_new_tokens: int,
        path: Path,
    ) -> None:
        self.pairs = pairs
        self.processor = processor
        self.prompt = prompt
        self.taxonomy = taxonomy
        self.max_new_tokens = max_new_tokens
        self.path = path
        self.latest: Samples | None = None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Describe the patches on the main process; called by the Trainer."""
        if not state.is_world_process_zero or not self.pairs:
            return
        model = objects["model"]
        # Under several processes the Trainer hands over its wrapper, which cannot generate.
        model = getattr(model, "module", model).eval()
        self.latest = describe_samples(
            model, self.processor, self.prompt, self.pairs, max_new_tokens=self.max_new_tokens, taxonomy=self.taxonomy
        )
        self.latest.write(self.path)
