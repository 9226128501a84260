"""Checkpoints by the clock, and which of them a killed run may trust."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data.atomic import write_json
from data.errors import InputError

FOLDER = "checkpoints"
_WHOLE = "whole.json"


class SaveByTime(TrainerCallback):
    """Saves a checkpoint every `seconds`, and marks each one as whole once every process has written its share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.saved = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Start the clock; called by the Trainer."""
        self.saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Ask for a checkpoint where one is due; called by the Trainer."""
        if _main_says(time.monotonic() - self.saved >= self.seconds, args):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        """Mark the checkpoint that was just written; called by the Trainer."""
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        best = state.best_global_step == state.global_step and state.best_model_checkpoint != str(folder)
        if best:
            # The Trainer looks for the folder before shards are written to it, and keeps to the best one before.
            state.best_model_checkpoint = str(folder)
        if state.is_world_process_zero:
            if best:
                state.save_to_json(str(folder / "trainer_state.json"))
            write_json(folder / _WHOLE, {"processes": args.world_size})
        self.saved = time.monotonic()


def newest_checkpoint(out: Path, *, processes: int) -> Path | None:
    """Newest whole checkpoint of the run in `out`; None where there is none yet.

    Raises:
        InputError: the run was begun with another number of processes, which would deal out its data otherwise.
    """
    whole = [folder for folder in _checkpoints(out) if (folder / _WHOLE).is_file()]
    if not whole:
        return None
    begun = json.loads((whole[-1] / _WHOLE).read_text(encoding="utf-8"))["processes"]
    if begun != processes:
        raise InputError(f"{out}: begun with {begun} processes, not {processes}; go on with as many or remove it")
    return whole[-1]


def drop_partial_checkpoints(out: Path) -> None:
    """Remove what a kill left half written; on one process, before the training begins."""
    for folder in _checkpoints(out):
        if not (folder / _WHOLE).is_file():
            shutil.rmtree(folder)


def _checkpoints(out: Path) -> list[Path]:
    """Folders of all checkpoints, by step."""
    found = [path for path in (out / FOLDER).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def _main_says(answer: bool, args: TrainingArguments) -> bool:
    """The main process's answer, since clocks differ and saving needs all processes."""
    if args.world_size == 1:
        return answer
    import torch
    from accelerate.utils import broadcast

    return bool(broadcast(torch.tensor(answer, device=args.device, dtype=torch.int32)).item())
