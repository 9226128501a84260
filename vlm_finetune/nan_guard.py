"""Stop at a loss or gradient that is not finite, and say which patches it came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data.atomic import write_json
from data.errors import InputError

ROWS = "rows"
Example = dict[str, torch.Tensor]


class NumberedRows(Dataset[Example]):
    """`dataset`, each example with its row number under `ROWS`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Example:
        return self.dataset[row] | {ROWS: torch.tensor(row)}


@dataclass(frozen=True)
class NumberedCollator:
    """`collate`, with the row numbers (N,) of the examples that have them beside the batch."""

    collate: Callable[[Sequence[Example]], Example]

    def __call__(self, examples: Sequence[Example]) -> Example:
        """Batch of `examples`."""
        rows = [example[ROWS] for example in examples if ROWS in example]
        batch = self.collate([{key: value for key, value in one.items() if key != ROWS} for one in examples])
        return batch | ({ROWS: torch.stack(rows)} if rows else {})


class NanGuard(TrainerCallback):
    """Looks at every loss and, before the weights move, at every gradient.

    Args:
        patch_ids: id of each training row.
        folder: where nan_batch.json goes.
    """

    def __init__(self, patch_ids: Sequence[str], folder: Path) -> None:
        self.patch_ids = patch_ids
        self.folder = folder
        self.rows: list[int] = []

    def see(self, rows: torch.Tensor, loss: torch.Tensor, *, step: int, process: int) -> None:
        """Take note of the rows of a batch and stop where their loss is not finite."""
        self.rows += rows.tolist()
        if not torch.isfinite(loss):
            self._stop("loss", step=step, process=process)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Stop where a gradient is not finite: its step would spoil the weights; called by the Trainer.

        DeepSpeed keeps the gradients to itself, so that there the losses alone are looked at.
        """
        gradients = [weight.grad for weight in objects["model"].parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm):
            self._stop("gradient", step=state.global_step + 1, process=args.process_index)
        self.rows.clear()

    def _stop(self, what: str, *, step: int, process: int) -> NoReturn:
        path = self.folder / ("nan_batch.json" if process == 0 else f"nan_batch-{process}.json")
        write_json(path, {"step": step, "what": what, "patch_ids": [self.patch_ids[row] for row in self.rows]})
        raise InputError(
            f"{path}: the {what} of step {step} is not finite; its patches are listed there: look at them, or lower "
            "--learning_rate and give another --out"
        )
