"""The order of the training rows: chance decides which share a step, length which share a batch of it."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class StepSampler(Sampler[int]):
    """Every row once per epoch, those of one optimizer step together and there by falling length.

    A step sums the gradients of its batches and processes, so that it learns the same whichever rows share one; rows
    of like length waste the least on padding, and the largest batch comes first.

    Args:
        lengths: tokens of each row.
        step_rows: rows of one optimizer step over all batches and processes.
        seed: of the order, drawn anew in each epoch.
    """

    def __init__(self, lengths: Sequence[int], *, step_rows: int, seed: int) -> None:
        self.lengths = lengths
        self.step_rows = step_rows
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch next; called by the Trainer, also where it resumes."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(rows), self.step_rows):
            yield from sorted(rows[start : start + self.step_rows], key=lambda row: -self.lengths[row])
