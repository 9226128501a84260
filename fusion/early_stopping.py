"""The end of a stage: when it has come, and with which weights the next stage begins."""

import torch
from torch import Tensor

from fusion.curriculum import Stage
from fusion.model import FusionModel
from fusion.run_folder import Progress


def note_epoch(
    progress: Progress, stage: Stage, loss: float, *, model: FusionModel, optimizer: torch.optim.Optimizer, last: bool
) -> bool:
    """Count one more epoch of `stage` with the validation `loss`; returns whether the stage ends with it.

    Args:
        last: whether no stage comes after this one; the model that is kept of it is not chosen by this loss.
    """
    if loss < progress.stage_best_loss:
        progress.stage_best_loss, progress.stage_best_epoch = loss, progress.epochs
        if stage.patience is not None and not last:
            progress.stage_best = {"model": model.unfrozen_state(), "moments": _trained_moments(optimizer)}
    progress.epochs += 1
    progress.stage_epochs += 1
    if progress.stage_epochs == stage.epochs:
        return True
    # Without any loss that is a number there is no best epoch, and the stage has waited since its start.
    best = max(progress.stage_best_epoch, progress.epochs - progress.stage_epochs - 1)
    return stage.patience is not None and progress.epochs - 1 - best >= stage.patience


def end_stage(progress: Progress, *, model: FusionModel, optimizer: torch.optim.Optimizer, last: bool) -> None:
    """Go back to the stage's best epoch if it has `patience`, mark in the history what is kept, and go on."""
    kept = progress.best_epoch if last else progress.epochs - 1
    if progress.stage_best is not None:
        kept = progress.stage_best_epoch
        model.load_unfrozen(progress.stage_best["model"])
        held = optimizer.state_dict()
        optimizer.load_state_dict(held | {"state": held["state"] | progress.stage_best["moments"]})
    progress.history[kept]["kept"] = True
    progress.stage += 1
    progress.stage_epochs, progress.stage_best = 0, None
    progress.stage_best_loss, progress.stage_best_epoch = float("inf"), -1


def _trained_moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """A copy, on the CPU, of the optimiser's state of all parameters that train, by their number."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        number: {name: value.to("cpu", copy=True) for name, value in moments.items()}
        for number, moments in optimizer.state_dict()["state"].items()
        if parameters[number].requires_grad
    }
