"""What every part of a training run uses."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from data.taxonomy import Taxonomy
from fusion.config import TrainConfig
from fusion.epoch_plan import EpochPlan, plan_epoch
from fusion.feed import Feed
from fusion.model import FusionModel
from fusion.patches import Patches

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Training:
    """One run, set up and ready to fit."""

    config: TrainConfig
    accelerator: "Accelerator"
    taxonomy: Taxonomy
    key: str
    patches: Patches
    model: FusionModel
    optimizer: torch.optim.Optimizer
    feed: Feed

    @property
    def progress_bars(self) -> bool:
        """Whether this process shows progress."""
        return self.accelerator.is_main_process

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of `epoch`, counted over the whole run from 0."""
        config = self.config
        return plan_epoch(
            self.patches.labels[self.patches.rows("train")],
            seed=config.seed,
            epoch=epoch,
            batch_size=config.batch_size,
            noise=config.text_noise,
            stain_jitter=config.stain_jitter,
            sampler=config.balance == "sampler",
        )
