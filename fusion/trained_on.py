"""The patients a model has seen, so that it is not measured on them."""

import json
from pathlib import Path

from data.atomic import write_json
from data.errors import InputError
from fusion.patches import Patches

TRAINED_ON = "trained_on.json"
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
