"""Patient- or site-grouped, class-stratified splits and folds, fixed by a seed."""

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
    _check_fractions(val_fraction, test_fraction)
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


def assign_splits_by_site(
    frame: pd.DataFrame, *, val_fraction: float, test_fraction: float, seed: int, source: Path
) -> pd.Series:
    """One of train, val, test per row of `frame`; all rows of a site share it.

    Sites are dealt so that the classes of the patients are as alike as can be; few sites make the shares rough.

    Raises:
        InputError: fewer than three sites, or fractions that leave nothing to train on.
    """
    _check_fractions(val_fraction, test_fraction)
    patients = one_row_per_patient(frame, by="site")
    if patients["group"].nunique() < len(SPLITS):
        raise InputError(
            f"{source}: {patients['group'].nunique()} sites cannot fill train, val and test; add sites or leave out "
            "--by site"
        )
    split_of = dict.fromkeys(patients["group"], "train")
    for split, share in (("test", test_fraction), ("val", val_fraction / (1 - test_fraction))):
        left = patients[patients["group"].map(split_of) == "train"]
        folds = min(max(2, round(1 / share)), left["group"].nunique())
        held = left["group"][deal_folds(left, folds=folds, seed=seed, source=source) == 1]
        split_of |= dict.fromkeys(held, split)
    return frame["site"].map(split_of)


def one_row_per_patient(frame: pd.DataFrame, *, by: str) -> pd.DataFrame:
    """The patients of `frame` by name: patient_id, label (the most frequent; "" for none), site, patches, and group.

    The group is the column `by` of `frame`, patient_id or site: what must stay together.
    """
    labels = frame.assign(label=frame["label"].fillna(""))
    patients = labels.groupby("patient_id", as_index=False).agg(
        label=("label", lambda some: some.mode().iloc[0]), site=("site", "first"), patches=("label", "size")
    )
    return patients.assign(group=patients[by])


def deal_folds(patients: pd.DataFrame, *, folds: int, seed: int, source: Path) -> pd.Series:
    """Fold, 1 to `folds`, of each of `patients`; groups stay whole, and the folds are alike in classes.

    Raises:
        InputError: fewer groups than folds, or groups so unlike that a fold would be empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = patients["group"].nunique()
    unit = "patients" if (patients["group"] == patients["patient_id"]).all() else "sites"
    if groups < folds:
        raise InputError(f"{source}: {groups} {unit} cannot fill {folds} folds; ask for fewer, or add {unit}")
    dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    # A patient counts as often as there are folds: scikit-learn refuses classes with fewer rows than folds, which a few
    # patients are.
    rows = patients.loc[patients.index.repeat(folds)]
    fold_of = pd.Series(0, index=patients.index)
    for fold, (_, held) in enumerate(dealer.split(rows, rows["label"], rows["group"]), start=1):
        if not len(held):
            raise InputError(f"{source}: the {unit} are too unequal for {folds} folds (one is empty); ask for fewer")
        fold_of[rows.index[held].unique()] = fold
    return fold_of


def _check_fractions(val_fraction: float, test_fraction: float) -> None:
    if not (0 < val_fraction < 1 and 0 < test_fraction < 1 and val_fraction + test_fraction < 1):
        raise InputError("--val_fraction and --test_fraction must be above 0 and add up to less than 1")
