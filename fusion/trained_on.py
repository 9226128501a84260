"""The patients and pictures a model has seen, so that it is not measured on them."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from data.atomic import atomic, write_json
from data.errors import InputError
from fusion.patches import Patches

TRAINED_ON = "trained_on.json"
PICTURES = "trained_on.parquet"
_COLUMNS = ["patch_id", "split", "pixel_hash", "perceptual_hash"]
SEEN_BEFORE = {"train": (), "val": ("train",), "test": ("train", "val")}
"""Splits whose patients may not occur in the one that is measured."""


def write_trained_on(folder: Path, patches: Patches) -> None:
    """Write the patients of the splits train and val; patches of no known patient cannot be listed."""
    seen = {
        split: sorted({patient for row in patches.rows(split) if (patient := patches.patients[row]) is not None})
        for split in ("train", "val")
    }
    write_json(folder / TRAINED_ON, seen)


def check_unseen(folder: Path, patches: Patches, *, split: str) -> None:
    """Refuse `patches` of `split` when the model in `folder` was trained, or for test also chosen, on their patients.

    Raises:
        InputError: a patient was seen, or the folder does not say who was.
    """
    if not SEEN_BEFORE[split]:
        return
    path = folder / TRAINED_ON
    remedy = "delete the folder and train it again"
    if not path.is_file():
        raise InputError(f"{path}: is missing, so whose patches the model has seen is unknown; {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seen = {patient: earlier for earlier in SEEN_BEFORE[split] for patient in content[earlier]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read; {remedy}") from error
    for patient in patches.patients:
        if patient is not None and patient in seen:
            raise InputError(
                f"{path}: patient {patient} of the split {split} was seen in training (split {seen[patient]}); "
                "measure on other patients, or train on a split without them"
            )


def write_pictures(folder: Path, frame: pd.DataFrame) -> None:
    """Write the hashes of the patches of train and val, of all rows `frame` of a manifest."""
    seen = frame.loc[frame["split"].isin(["train", "val"]), _COLUMNS]
    with atomic(folder / PICTURES) as temporary:
        seen.to_parquet(temporary, index=False)


def read_pictures(folder: Path) -> pd.DataFrame | None:
    """What `write_pictures` wrote; None for a model that was trained before it was written.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / PICTURES
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)[_COLUMNS]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read; delete the folder and train it again") from error
