"""The course of a training as a table: history.csv."""

import csv
import io
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data.atomic import write_text

COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "eval_loss": "val_loss",
    "eval_finding_f1": "finding_f1",
}
"""The Trainer's name of each column of history.csv, and the column's own."""


class History(TrainerCallback):
    """Writes the Trainer's log, one row per step that has an entry; a resumed run goes on with the same table."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        """Write the table anew; called by the Trainer."""
        if not state.is_world_process_zero:
            return
        rows: dict[int, dict[str, Any]] = {}
        for entry in state.log_history:
            known = {COLUMNS[key]: value for key, value in entry.items() if key in COLUMNS}
            if len(known) > 2:
                rows.setdefault(int(entry["step"]), {}).update(known)
        table = io.StringIO()
        writer = csv.DictWriter(table, list(COLUMNS.values()), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))
        write_text(self.path, table.getvalue())
