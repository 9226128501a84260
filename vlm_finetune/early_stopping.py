"""Stop when the validation no longer improves, also where the run was killed right after it had stopped."""

from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments


class EarlyStopping(EarlyStoppingCallback):
    """The Trainer's own early stopping, whose decision outlives a kill.

    The Trainer always takes a step before it looks whether to stop; a resumed run that had stopped must not evaluate
    the weights after that step, or they could become the best ones.
    """

    @property
    def stopped(self) -> bool:
        """Whether the patience is used up."""
        return self.early_stopping_patience_counter >= self.early_stopping_patience

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Stop again what had stopped; called by the Trainer."""
        super().on_train_begin(args, state, control, **objects)
        if self.stopped:
            control.should_training_stop = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        """Neither evaluate nor save once stopped; called by the Trainer."""
        if self.stopped:
            control.should_evaluate = control.should_save = False
