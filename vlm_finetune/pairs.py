"""Image–description pairs of a manifest, and the dataset that encodes them for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from data.errors import InputError
from data.findings import read_findings
from data.image import read_image
from data.manifest import image_path, read_manifest
from data.taxonomy import Taxonomy
from vlm_finetune.collate import AnswerForm, EncodedAnswer, encode_answer, join
from vlm_finetune.encode import encode_prompts
from vlm_finetune.prompt import PatchPrompt


@dataclass(frozen=True)
class Pair:
    """One patch with what a person wrote about it."""

    patch_id: str
    image: Path
    patient_id: str | None
    description: str
    findings: dict[str, str]
    """Known findings, or those that the description states."""


def read_pairs(manifest: Path, split: str, taxonomy: Taxonomy) -> list[Pair]:
    """Rows of `split` that have a description, checked before any model is loaded.

    Raises:
        InputError: an empty description or a missing image, by row and file.
    """
    frame = read_manifest(manifest)
    pairs = []
    for row in frame[(frame["split"] == split) & frame["description"].notna()].itertuples(index=False):
        if not row.description.strip():
            raise InputError(f"{manifest}: the description of {row.patch_id} is empty; write one or leave the cell out")
        if row.image is None:
            raise InputError(
                f"{manifest}: {row.patch_id} has a description but no image file; save the patch as an image"
            )
        path = image_path(manifest, row.image)
        if not path.is_file():
            raise InputError(f"{path}: no such image ({row.patch_id} of {manifest}); correct the path in the manifest")
        findings = row.findings if row.findings is not None else read_findings(row.description, taxonomy)
        pairs.append(Pair(row.patch_id, path, row.patient_id, row.description.strip(), findings))
    return pairs


class PairDataset(Dataset[dict[str, torch.Tensor]]):
    """Training examples of `pairs`; with `cache`, each image is read and preprocessed once."""

    def __init__(
        self, pairs: Sequence[Pair], *, prompt: PatchPrompt, processor: Any, max_length: int, cache: bool
    ) -> None:
        self.pairs = pairs
        self.prompt = prompt
        self.processor = processor
        self.cached: dict[int, dict[str, torch.Tensor]] | None = {} if cache else None
        self.answers = self._answers(max_length) if pairs else []

    @property
    def shortened(self) -> int:
        """Number of answers that were too long and lost their end."""
        return sum(answer.shortened for answer in self.answers)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return join(self.encoded(index), self.answers[index])

    def encoded(self, index: int) -> dict[str, torch.Tensor]:
        """The prompt of a row with its image, as a batch of one."""
        if self.cached is not None and index in self.cached:
            return self.cached[index]
        encoded = encode_prompts([read_image(self.pairs[index].image)], self.prompt, self.processor)
        if self.cached is not None:
            self.cached[index] = encoded
        return encoded

    def forget_pixels(self, index: int, encoded: dict[str, torch.Tensor]) -> None:
        """Keep of an encoded row all but its pixels, which are not needed again."""
        assert self.cached is not None
        self.cached[index] = {key: value for key, value in encoded.items() if not key.startswith("pixel_")}

    def _answers(self, max_length: int) -> list[EncodedAnswer]:
        form = AnswerForm.of(self.processor, self.prompt)
        # All patches have one size, so the first tells the length of every prompt.
        room = max_length - self.encoded(0)["input_ids"].shape[1]
        return [encode_answer(pair.description, form, self.processor, room=room) for pair in self.pairs]
