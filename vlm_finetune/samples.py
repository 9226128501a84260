"""Descriptions of a fixed handful of validation patches: text beside the picture, and a score of their findings."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object

from data.atomic import write_text
from data.findings import read_findings
from data.image import read_image
from data.out_of_memory import run_in_batches
from data.taxonomy import Taxonomy
from vlm_finetune.decoding import Caption, Decoding
from vlm_finetune.finding_scores import FindingScores, finding_macro_f1
from vlm_finetune.generate import generate
from vlm_finetune.pairs import Pair
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.written_samples import cell_of

_BATCH = 16


@dataclass(frozen=True)
class Samples:
    """Generated descriptions of `pairs` and how well they state the findings."""

    step: int
    """Optimizer steps of the training before they were written."""
    pairs: Sequence[Pair]
    captions: Sequence[Caption]
    scores: FindingScores

    def write(self, path: Path) -> None:
        """Write a Markdown table: each picture, linked from where it is, beside reference and description."""
        lines = [
            f"# Samples after {self.step} steps\n",
            f"Finding macro-F1 {self.scores.macro_f1:.3f} on {len(self.pairs)} validation patches.\n",
            "| patch | reference | written |\n|---|---|---|",
        ]
        for pair, caption in zip(self.pairs, self.captions, strict=True):
            picture = quote(Path(os.path.relpath(pair.image.resolve(), path.parent.resolve())).as_posix())
            written = caption.text or f"({caption.error})"
            lines.append(
                f'| <img src="{picture}" width="224" alt=""><br>{cell_of(pair.patch_id)} '
                f"| {cell_of(pair.description)} | {cell_of(written)} |"
            )
        write_text(path, "\n".join(lines) + "\n")


def pick(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` pairs spread evenly over `pairs`: the same ones at every evaluation."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[index] for index in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


class SampleWriter:
    """Describes the same patches at every evaluation, shared between the processes, and writes them to `folder`."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        processor: Any,
        prompt: PatchPrompt,
        taxonomy: Taxonomy,
        max_new_tokens: int,
        folder: Path,
    ) -> None:
        self.pairs = pairs
        self.processor = processor
        self.prompt = prompt
        self.taxonomy = taxonomy
        self.decoding = Decoding(max_new_tokens=max_new_tokens)
        self.folder = folder
        self.latest: Samples | None = None

    def describe(self, model: Any, *, step: int) -> Samples:
        """Describe the patches greedily with `model`, in eval mode; every process calls it and gets all of them."""
        state = PartialState()
        # As many for each: where weights lie shared between the processes, all of them have to be at every batch.
        count = -(-len(self.pairs) // state.num_processes)
        mine = [*self.pairs[state.process_index :: state.num_processes], *self.pairs[:1]][:count]
        batches, _ = run_in_batches(
            lambda some: generate(
                model, self.processor, self.prompt, [read_image(pair.image) for pair in some], self.decoding
            ),
            mine,
            size=_BATCH,
            name="describing validation patches",
        )
        written = [caption for batch in batches for caption in batch]
        by_patch = dict(gather_object([(pair.patch_id, one) for pair, one in zip(mine, written, strict=True)]))
        captions = [by_patch[pair.patch_id] for pair in self.pairs]
        stated = [read_findings(caption.text, self.taxonomy) for caption in captions]
        scores = finding_macro_f1([pair.findings for pair in self.pairs], stated, self.taxonomy)
        self.latest = Samples(step=step, pairs=self.pairs, captions=captions, scores=scores)
        if state.is_main_process:
            self.latest.write(self.folder / f"step-{step:06d}.md")
        return self.latest
