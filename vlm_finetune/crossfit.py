"""Folds of patients, so that each patient can be described by an adapter that has not seen them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.errors import InputError

if TYPE_CHECKING:
    from vlm_finetune.pairs import Pair


def deal_patients(pairs: "Sequence[Pair]", *, folds: int, seed: int) -> dict[str, int]:
    """Return the fold, 1 to `folds`, of every patient: as even in patients as can be, fixed by `seed`.

    Raises:
        InputError: a pair of no known patient, or fewer patients than folds.
    """
    unknown = [pair.patch_id for pair in pairs if pair.patient_id is None]
    if unknown:
        raise InputError(
            f"--crossfit {folds}: {len(unknown)} training pairs, such as {unknown[0]}, have no patient_id, which "
            "says who must be held out together; add it to the manifest or leave them out"
        )
    patients = sorted({str(pair.patient_id) for pair in pairs})
    if folds < 2 or folds > len(patients):
        raise InputError(f"--crossfit {folds}: give 2 to {len(patients)}, the number of training patients, or 0")
    shuffled = np.random.default_rng(seed).permutation(patients)
    return {str(patient): 1 + index % folds for index, patient in enumerate(shuffled)}


def without_fold(pairs: "Sequence[Pair]", *, fold: int, folds: int, seed: int) -> "list[Pair]":
    """The `pairs` of the patients who are not in `fold`."""
    fold_of = deal_patients(pairs, folds=folds, seed=seed)
    return [pair for pair in pairs if fold_of[str(pair.patient_id)] != fold]
