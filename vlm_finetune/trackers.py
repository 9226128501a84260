"""Experiment trackers by name: those that the Trainer knows and this machine has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that the Trainer can report to `names`.

    Raises:
        InputError: a tracker that the Trainer does not know, or whose package is absent.
    """
    if not names:
        return
    from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise InputError(
                f"--trackers {name}: unknown; the Trainer knows {', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            )
        if name not in get_available_reporting_integrations():
            raise InputError(f"--trackers {name}: its package is not installed; `pip install {name}` or leave it out")


def keep_tensorboard_in(folder: Path, callbacks: Sequence[Any]) -> None:
    """Let TensorBoard write to `folder`, where it was not told otherwise: the checkpoints it takes are removed."""
    from transformers.integrations import TensorBoardCallback

    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder)
