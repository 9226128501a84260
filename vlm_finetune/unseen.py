"""Which adapter may describe which patient: one that has not read that patient's descriptions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError

TRAINED_ON_FILE = "trained_on.json"
FOLDS_FOLDER = "crossfit"


@dataclass(frozen=True)
class Place:
    """Where in a slide a patch lies."""

    slide_id: str
    """Path of the slide, relative to the folder of slides."""
    x: int
    """Left edge in level-0 pixels."""
    y: int
    """Top edge in level-0 pixels."""
    size_px: int
    """Side in pixels of the resolution `mpp`."""
    mpp: float
    """µm per pixel."""


@dataclass(frozen=True)
class Row:
    """One patch to describe: an image, or a place in a slide."""

    patch_id: str
    image: str | None
    """Path relative to the manifest."""
    patient_id: str | None
    place: Place | None = None


def choose_adapters(
    adapter: Path | None, rows: Sequence[Row], *, allow_seen: bool
) -> list[tuple[Path | None, list[Row]]]:
    """Return each adapter to use with its share of `rows`, in their order.

    A patient whom the adapter was trained on is described by the adapter of the fold that held the patient out, where
    fine-tuning was cross-fitted: text on patients that were learnt by heart is surer than text on new ones, and a
    classifier trained on it trusts it too much. Rows of no known patient, and of patients that were not trained on,
    get the adapter itself.

    Raises:
        InputError: patients that every adapter has seen, unless `allow_seen`.
    """
    if adapter is None:
        return [(None, list(rows))]
    # The output of a fine-tuning run, or the adapter folder inside it.
    run = adapter if (adapter / TRAINED_ON_FILE).is_file() else adapter.parent
    patients = {row.patient_id for row in rows if row.patient_id is not None}
    seen = patients if allow_seen and not (run / TRAINED_ON_FILE).is_file() else _seen(run) & patients
    chosen: dict[str, Path] = {}
    for fold in fold_folders(run):
        for patient in (seen - chosen.keys()) - _seen(fold):
            chosen[patient] = fold
    left = sorted(seen - chosen.keys())
    if left and not allow_seen:
        raise InputError(
            f"{adapter}: was trained on {len(left)} of the patients to describe, such as {left[0]}, and text on them "
            "is surer than on others; train with --crossfit 5, leave them out with --splits [val,test], or accept it "
            "with --seen_patients allow"
        )
    shares: dict[Path | None, list[Row]] = {}
    for row in rows:
        shares.setdefault(chosen.get(row.patient_id or "", adapter), []).append(row)
    return list(shares.items())


def fold_folders(run: Path) -> list[Path]:
    """Run folders of the folds inside the run folder `run`, in their order."""
    folder = run / FOLDS_FOLDER
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _seen(run: Path) -> set[str]:
    path = run / TRAINED_ON_FILE
    if not path.is_file():
        raise InputError(
            f"{run}: holds no {TRAINED_ON_FILE}, so whom it was trained on is unknown; give the output folder of "
            "`mmlnb finetune`, or accept it with --seen_patients allow"
        )
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["patients"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read; train the adapter again") from error
