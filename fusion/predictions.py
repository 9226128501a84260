"""The predictions of an evaluation, arm by arm, as measured and as kept in predictions.parquet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from data.atomic import atomic
from data.errors import InputError
from fusion.classified import Classified
from fusion.config import Arm
from fusion.patches import owners

ARMS: tuple[Arm, ...] = get_args(Arm)
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What every arm says of N labelled patches, each list and array in the same order."""

    classes: tuple[str, ...]
    ids: list[str]
    labels: np.ndarray
    """(N,) index of the class."""
    slides: list[str | None]
    patients: list[str | None]
    has_text: np.ndarray
    """(N,) bool."""
    tissue: np.ndarray
    """(N,) share of the patch that is tissue, 0–1."""
    gate: np.ndarray
    """(N,) trust in the text, 0 where there is none."""
    arms: dict[Arm, np.ndarray]
    """Probabilities (N, C) by arm."""

    def __len__(self) -> int:
        return len(self.ids)

    def counted(self, arm: Arm) -> np.ndarray:
        """Indices of the patches that count for `arm`: with the text alone, those that have one."""
        return np.flatnonzero(self.has_text) if arm == "text_only" else np.arange(len(self))

    def classified(self, arm: Arm) -> Classified:
        """All N patches as `arm` calls them."""
        owned = np.array(owners(self.patients, self.slides, self.ids), dtype=object)
        return Classified(self.labels, self.arms[arm], owned)

    def take(self, rows: np.ndarray) -> "Predictions":
        """The patches at the indices `rows`, in that order."""
        return Predictions(
            classes=self.classes,
            ids=[self.ids[row] for row in rows],
            labels=self.labels[rows],
            slides=[self.slides[row] for row in rows],
            patients=[self.patients[row] for row in rows],
            has_text=self.has_text[rows],
            tissue=self.tissue[rows],
            gate=self.gate[rows],
            arms={arm: probabilities[rows] for arm, probabilities in self.arms.items()},
        )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one row per patch."""
    columns: dict[str, object] = {
        "patch_id": predictions.ids,
        "label": [predictions.classes[label] for label in predictions.labels],
        "slide_id": predictions.slides,
        "patient_id": predictions.patients,
        "has_text": predictions.has_text,
        "tissue": predictions.tissue.astype(np.float32),
    }
    for arm, probabilities in predictions.arms.items():
        columns |= {f"{arm}_{name}": probabilities[:, index] for index, name in enumerate(predictions.classes)}
    columns["gate"] = predictions.gate
    with atomic(path) as temporary:
        pd.DataFrame(columns).to_parquet(temporary, index=False)


def read_predictions(folder: Path) -> Predictions:
    """Read what `mmlnb evaluate` left in `folder`.

    Raises:
        InputError: no finished evaluation, or one that cannot be read or is of an earlier version.
    """
    metrics, path = folder / "metrics.json", folder / PREDICTIONS
    for file in (metrics, path):
        if not file.is_file():
            raise InputError(f"{file}: missing; give a folder that `mmlnb evaluate` finished")
    try:
        classes = tuple(json.loads(metrics.read_text(encoding="utf-8"))["classes"])
        frame = pd.read_parquet(path)
        place = {name: index for index, name in enumerate(classes)}
        return Predictions(
            classes=classes,
            ids=list(frame["patch_id"]),
            labels=np.array([place[label] for label in frame["label"]], dtype=np.int64),
            slides=_names(frame["slide_id"]),
            patients=_names(frame["patient_id"]),
            has_text=frame["has_text"].to_numpy(dtype=bool),
            tissue=frame["tissue"].to_numpy(dtype=float),
            gate=frame["gate"].to_numpy(),
            arms={arm: frame[[f"{arm}_{name}" for name in classes]].to_numpy() for arm in ARMS},
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{folder}: not an evaluation of this version ({why}); evaluate again") from error


def _names(column: pd.Series) -> list[str | None]:
    return [None if missing else str(name) for name, missing in zip(column, column.isna(), strict=True)]
