"""The output folder of a training run: whose it is, where it stands, and how it goes on."""

import json
import pickle
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor

from data.atomic import atomic, digest, write_json, write_text
from data.command import config_yaml
from data.errors import InputError
from fusion.config import TrainConfig

RUN = "run.json"
STATE = "state"
SETTINGS_WITHOUT_EFFECT = (
    "out",
    "workers",
    "image_memory_gb",
    "checkpoint_seconds",
    "features",
    "near_duplicates",
    "trust_remote_code",
)


@dataclass
class Progress:
    """Where a run stands after its last whole epoch."""

    epochs: int = 0
    """Epochs done, over all stages."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One record per epoch."""
    best: dict[str, Tensor] | None = None
    """What the last stage trains, as of its best epoch by validation."""
    best_score: tuple[float, float] = (-1.0, float("-inf"))
    """Balanced accuracy and negative loss of the best epoch on the validation rows."""
    best_epoch: int = -1
    """That epoch, counted over all stages from 0."""
    stage: int = 0
    """Number of the stage that is under way or comes next, from 0."""
    stage_epochs: int = 0
    """Epochs done of that stage."""
    stage_best_loss: float = float("inf")
    """Lowest validation loss of that stage."""
    stage_best_epoch: int = -1
    """The epoch that had it, counted over all stages from 0."""
    stage_best: dict[str, Any] | None = None
    """Weights and optimiser's moments of that epoch, where the next stage may go on from them."""


def run_key(config: TrainConfig, *, taxonomy_key: str) -> str:
    """Hash of everything that decides the weights: settings, and the content of manifest and captions."""
    settings = {name: value for name, value in asdict(config).items() if name not in SETTINGS_WITHOUT_EFFECT}
    settings["manifest"] = digest(config.manifest.read_bytes()) if config.manifest.is_file() else None
    if config.captions is not None:
        parts = sorted(config.captions.glob("part-*.parquet"))
        settings["captions"] = digest(*(part.read_bytes() for part in parts))
    return digest(json.dumps(settings, sort_keys=True, default=str), taxonomy_key)


def claim(config: TrainConfig, *, key: str) -> bool:
    """Check whose folder `config.out` is; true when this very run is already finished in it.

    Raises:
        InputError: the folder holds another run, or files of something else.
    """
    out, record = config.out, config.out / RUN
    if not record.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: holds files that are not of a training run; choose another --out or empty it")
        return False
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        held, finished = content["key"], content["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record}: cannot be read; choose another --out or delete this folder") from error
    if held != key:
        raise InputError(f"{out}: holds another run ({_difference(config)}); choose another --out or delete it")
    return bool(finished)


def start(config: TrainConfig, *, key: str, taxonomy_source: str) -> None:
    """Mark the folder as this run's and write its settings."""
    write_json(config.out / RUN, {"key": key, "finished": False})
    write_text(config.out / "config.yaml", config_yaml(config))
    write_text(config.out / "taxonomy.yaml", taxonomy_source)


class Checkpoints:
    """Writes the state of a run, at most once in so many seconds."""

    def __init__(self, config: TrainConfig, *, key: str) -> None:
        self.path = config.out / STATE / "last.pt"
        self.every = config.checkpoint_seconds
        self.key = key
        self.saved_at = time.monotonic()

    def save(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, *, now: bool = False
    ) -> None:
        """Write everything that the next epoch depends on, whole or not at all; `now` does not wait."""
        if not now and time.monotonic() - self.saved_at < self.every:
            return
        content = {
            "key": self.key,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": vars(progress),
        }
        with atomic(self.path) as temporary:
            torch.save(content, temporary)
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove the state of a finished run."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def load_progress(out: Path, *, key: str) -> dict[str, Any] | None:
    """What `Checkpoints.save` wrote for the run `key`, or None where there is no checkpoint yet.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    path = out / STATE / "last.pt"
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: cannot be read; delete it to train again from the start") from error
    if content["key"] != key:
        raise InputError(f"{path}: belongs to another run; delete it to train again from the start")
    return content


def write_history(out: Path, history: list[dict[str, Any]]) -> None:
    """Write `history.csv`, one row per epoch."""
    with atomic(out / "history.csv") as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False, lineterminator="\n")


def _difference(config: TrainConfig) -> str:
    """The settings in which the run in the folder differs, as far as they can be told."""
    try:
        held = yaml.safe_load((config.out / "config.yaml").read_text(encoding="utf-8"))
        own = yaml.safe_load(config_yaml(config))
    except (OSError, yaml.YAMLError):
        return "its settings cannot be read"
    names = [name for name in own if held.get(name) != own[name] and name not in SETTINGS_WITHOUT_EFFECT]
    return f"{', '.join(names)} differ" if names else "manifest, captions or taxonomy have changed"
