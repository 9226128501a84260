"""Patient-grouped, class-stratified split into train, val and test, fixed by a seed."""

from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import InputError
from data.manifest import SPLITS


def assign_splits(
    frame: pd.DataFrame, *, val_fraction: float, test_fraction: float, seed: int, source: Path
) -> pd.Series:
    """One of train, val, test per row of `frame`; all rows of a patient share it.

    Patients are dealt class by class (a patient counts for its most frequent label), so that every split sees every
    class as far as there are patients; a class with three or more patients is in all three splits.

    Raises:
        InputError: fewer than three patients, or fractions that leave nothing to train on.
    """
    if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
        raise InputError("--val_fraction and --test_fraction must be above 0 and add up to less than 1")
    label_of = frame.groupby("patient_id")["label"].agg(lambda labels: labels.mode().iloc[0])
    if len(label_of) < len(SPLITS):
        raise InputError(
            f"{source}: {len(label_of)} patients cannot fill train, val and test; add patients or a `split` column"
        )
    random = np.random.default_rng(seed)
    split_of: dict[str, str] = {}
    for label in sorted(label_of.unique()):
        patients = random.permutation(sorted(label_of.index[label_of == label]))
        test = _share(len(patients), test_fraction)
        val = _share(len(patients) - test, val_fraction / (1 - test_fraction))
        for index, patient in enumerate(patients):
            split_of[patient] = "test" if index < test else "val" if index < test + val else "train"
    _fill_empty_splits(split_of)
    return frame["patient_id"].map(split_of)


def _share(count: int, fraction: float) -> int:
    """Rounded share of `count`: at least one where that leaves one over."""
    return min(max(round(count * fraction), 1), count - 1) if count > 1 else 0


def _fill_empty_splits(split_of: dict[str, str]) -> None:
    """Where every class is too small to give to each split, take patients from train in order of name."""
    for split in ("test", "val"):
        if split not in split_of.values():
            training = sorted(patient for patient, assigned in split_of.items() if assigned == "train")
            split_of[training[-1]] = split
