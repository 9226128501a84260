"""Progress of a training as one bar: time left, and the losses beside it."""

from typing import Any

from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

_SHOWN = {"loss": "loss", "eval_loss": "val", "eval_finding_f1": "F1"}


class LossBar(ProgressCallback):
    """The Trainer's own bar, with the losses on it instead of a line of settings for each."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, str] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **objects: Any,
    ) -> None:
        """Show the newest losses and the finding macro-F1; called by the Trainer."""
        newest = {name: logs[key] for key, name in _SHOWN.items() if logs and key in logs}
        self.shown |= {name: f"{float(value):.3f}" for name, value in newest.items()}
        if state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.set_postfix(self.shown)
