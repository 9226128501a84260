"""K-fold and nested K-fold over patients or sites: who is what in which fold, as data, and a manifest for each fold."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data.atomic import atomic, digest, write_text
from data.check_duplicates import check_duplicates
from data.claim import check_claim, claim
from data.command import config_yaml, run_command
from data.config import SplitConfig
from data.errors import InputError
from data.manifest import image_path, read_manifest, relative_image, write_manifest
from data.patch_hashes import with_hashes
from data.sites import assign_sites, check_sites, constant_sites
from data.split import deal_folds, one_row_per_patient

FOLDS_FILE = "folds.parquet"
MANIFEST = "patches.parquet"


@dataclass(frozen=True)
class Round:
    """One training: who trains, validates and is tested."""

    fold: int
    """From 1."""
    inner: int
    """From 1; 0 for the fold itself, which alone has test patients."""
    roles: dict[str, str]
    """train, val or test of every patient that takes part."""

    @property
    def folder(self) -> Path:
        """Where its manifest lies, relative to the output folder."""
        return Path(f"fold-{self.fold}") / (f"inner-{self.inner}" if self.inner else "")


def split(config: SplitConfig) -> Path:
    """Deal the patients of `config.manifest` into folds and return `config.out`.

    Writes a manifest for each fold and inner fold, config.yaml, and last folds.parquet: fold, inner (0 for the fold
    itself), patient_id, site, label (the patient's most frequent one), patches and role. The same manifest, settings
    and seed give the same folds, whatever the order of the rows.

    Raises:
        InputError: rows that cannot be dealt, more folds than patients (or sites), the same picture under two
            patients (or sites), or a folder of other folds.
    """
    frame, key = _rows(config), _key(config)
    if check_claim(config.out, key=key) and (config.out / FOLDS_FILE).is_file():
        print(f"{config.out}: already split with these settings and data")
        return config.out
    side = "site" if config.by == "site" else "patient_id"
    frame = with_hashes(frame, config.manifest)
    check_duplicates(frame, side=side, source=config.manifest, near=config.near_duplicates)
    patients = one_row_per_patient(frame, by=side)
    rounds = list(deal_rounds(patients, config))
    claim(config.out, key=key)
    for one in rounds:
        write_manifest(_share(frame, one.roles, config, one.folder), config.out / one.folder / MANIFEST)
    write_text(config.out / "config.yaml", config_yaml(config))
    table = _table(patients, rounds)
    with atomic(config.out / FOLDS_FILE) as temporary:
        table.to_parquet(temporary, index=False)
    print(_summary(table))
    for note in filter(None, [constant_sites(frame), *_untested_classes(table)]):
        print(f"{config.manifest}: {note}")
    print(f"{config.out / rounds[0].folder / MANIFEST} and {len(rounds) - 1} more; give each to `mmlnb train`")
    return config.out


def deal_rounds(patients: pd.DataFrame, config: SplitConfig) -> Iterator[Round]:
    """All trainings over `patients`, as `one_row_per_patient` gives them."""
    fold_of = deal_folds(patients, folds=config.folds, seed=config.seed, source=config.manifest)
    for fold in range(1, config.folds + 1):
        held, rest = patients[fold_of == fold], patients[fold_of != fold]
        # As many folds of the rest as make one of them the wanted share of all.
        share = config.val_fraction * len(patients) / len(rest)
        parts = min(max(2, round(1 / share)), rest["group"].nunique())
        val = deal_folds(rest, folds=parts, seed=_seed(config, fold, 0), source=config.manifest) == 1
        test = dict.fromkeys(held["patient_id"], "test")
        yield Round(fold, 0, _roles(rest, val) | test)
        if config.inner:
            inner_of = deal_folds(rest, folds=config.inner, seed=_seed(config, fold, 1), source=config.manifest)
            for inner in range(1, config.inner + 1):
                yield Round(fold, inner, _roles(rest, inner_of == inner))


def _rows(config: SplitConfig) -> pd.DataFrame:
    """The rows that take part, with their sites; raises where they cannot be dealt."""
    frame = read_manifest(config.manifest)
    left_out = frame["split"].notna() & ~frame["split"].isin(config.splits)
    if left_out.any():
        print(f"{config.manifest}: {left_out.sum()} patches of other splits than {', '.join(config.splits)} left out")
    frame = frame[~left_out].reset_index(drop=True)
    if frame.empty:
        raise InputError(f"{config.manifest}: no rows in the splits {', '.join(config.splits)}; set --splits")
    if frame["patient_id"].isna().any():
        patch = frame.loc[frame["patient_id"].isna(), "patch_id"].iloc[0]
        raise InputError(f"{config.manifest}: patch {patch} has no patient_id; prepare the manifest with patients")
    frame["site"] = assign_sites(frame, config.site_pattern, source=config.manifest)
    if config.by == "site":
        check_sites(frame, source=config.manifest)
    return frame


def _key(config: SplitConfig) -> str:
    without_effect = ("manifest", "out", "near_duplicates")
    settings = {name: str(value) for name, value in asdict(config).items() if name not in without_effect}
    return digest(json.dumps(settings, sort_keys=True), config.manifest.read_bytes())


def _seed(config: SplitConfig, fold: int, purpose: int) -> int:
    return int(np.random.SeedSequence([config.seed, fold, purpose]).generate_state(1)[0])


def _roles(patients: pd.DataFrame, val: pd.Series) -> dict[str, str]:
    return dict(zip(patients["patient_id"], np.where(val, "val", "train"), strict=True))


def _share(frame: pd.DataFrame, roles: dict[str, str], config: SplitConfig, folder: Path) -> pd.DataFrame:
    """The rows of the patients in `roles`, for a manifest in `folder`."""
    frame = frame.assign(split=frame["patient_id"].map(roles))
    frame = frame[frame["split"].notna()]
    home = config.out / folder
    home.mkdir(parents=True, exist_ok=True)
    images = [image and relative_image(image_path(config.manifest, image), home) for image in frame["image"]]
    return frame.assign(image=images)


def _table(patients: pd.DataFrame, rounds: list[Round]) -> pd.DataFrame:
    parts = [
        patients.assign(fold=one.fold, inner=one.inner, role=patients["patient_id"].map(one.roles)) for one in rounds
    ]
    table = pd.concat(parts, ignore_index=True).dropna(subset=["role"])
    return table[["fold", "inner", "patient_id", "site", "label", "patches", "role"]]


def _summary(table: pd.DataFrame) -> str:
    """Patients by class, for every fold and role."""
    outer = table[table["inner"] == 0]
    counts = pd.crosstab([outer["fold"], outer["role"]], outer["label"].replace("", "(no label)"))
    counts["patients"] = counts.sum(axis=1)
    counts["patches"] = outer.groupby(["fold", "role"])["patches"].sum()
    return counts.rename_axis(columns=None).to_string()


def _untested_classes(table: pd.DataFrame) -> list[str]:
    """A line for each class that some fold does not test."""
    tested = table[(table["inner"] == 0) & (table["role"] == "test")]
    folds = range(1, int(table["fold"].max()) + 1)
    notes = []
    for label, rows in tested.groupby("label"):
        without = [str(fold) for fold in folds if fold not in set(rows["fold"])]
        if label and without:
            notes.append(
                f"class {label} has {len(rows)} patients; without any in the test of fold {', '.join(without)}"
            )
    return notes


if __name__ == "__main__":
    raise SystemExit(run_command(split, SplitConfig, name="split"))
