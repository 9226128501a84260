"""Nothing that is measured was seen before: by the model, by its calibration, or by whoever wrote its text."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from data.caption_writers import WRITERS_FILE, check_writers, read_writers, write_writers
from data.check_duplicates import check_duplicates
from data.errors import InputError
from data.manifest import SPLITS, read_manifest
from data.patch_hashes import with_hashes
from data.sites import constant_sites
from fusion.config import EvaluateConfig, TrainConfig
from fusion.patches import Patches
from fusion.trained_on import PICTURES, SEEN_BEFORE, check_unseen, read_pictures, write_pictures

logger = logging.getLogger(__name__)


def check_training(config: TrainConfig) -> pd.DataFrame:
    """Refuse to train on a manifest or captions whose splits are not apart; returns the manifest's rows with hashes.

    What chooses the epoch and the temperature (val) and what is measured later (test) must be new to the model: no
    picture of one split is in another, and no writer of a caption has read their patients' descriptions.

    Raises:
        InputError: naming the file, the first patch or patient, and what to do.
    """
    frame = read_manifest(config.manifest)
    frame = with_hashes(frame[frame["split"].isin(SPLITS)].reset_index(drop=True), config.manifest)
    check_duplicates(frame, side="split", source=config.manifest, near=config.near_duplicates)
    if config.text_source == "captions" and config.captions is not None:
        for split in ("val", "test"):
            patients = frame.loc[frame["split"] == split, "patient_id"].dropna()
            if len(patients):
                check_writers(config.captions, set(patients), split=split)
    if (sites := constant_sites(frame)) is not None:
        logger.warning("%s: %s", config.manifest, sites)
    return frame


def write_seen(config: TrainConfig, rows: pd.DataFrame) -> None:
    """Write beside the model, for `check_measured`, what it sees and whom the writers of its text had seen."""
    write_pictures(config.out, rows)
    writers = read_writers(config.captions) if config.text_source == "captions" and config.captions else None
    if writers is not None:
        write_writers(config.out, writers)


def check_measured(config: EvaluateConfig, patches: Patches) -> dict[str, Any]:
    """Refuse to measure on `patches` that the model has seen; returns what was compared, as leakage.json holds it.

    Raises:
        InputError: naming the file, the first patch or patient, and what to do.
    """
    check_unseen(config.model, patches, split=config.split)
    chosen_on = check_calibration(config.model, split=config.split)
    known = {patient for patient in patches.patients if patient is not None}
    if (config.model / WRITERS_FILE).is_file():
        check_writers(config.model, known, split=config.split)
    writers: dict[str, int | None] | None = None
    if config.text_source == "captions" and config.captions is not None:
        writers = check_writers(config.captions, known, split=config.split)
    return {
        "split": config.split,
        "patients": len(known),
        "patches_of_no_known_patient": sum(patient is None for patient in patches.patients),
        "pictures": _check_pictures(config),
        "calibrated_on": chosen_on,
        "captions": writers,
    }


def check_calibration(folder: Path, *, split: str) -> str:
    """The split on which the temperatures of the model in `folder` were chosen.

    Raises:
        InputError: it is the test split, which is measured, or the file does not say.
    """
    path = folder / "calibration.json"
    remedy = "train the model again, which chooses them on val"
    try:
        chosen_on = str(json.loads(path.read_text(encoding="utf-8"))["split"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: does not say on which split its temperatures were chosen; {remedy}") from error
    if split == "test" and chosen_on not in SEEN_BEFORE["test"]:
        raise InputError(f"{path}: its temperatures were chosen on the split {chosen_on}, which is measured; {remedy}")
    return chosen_on


def _check_pictures(config: EvaluateConfig) -> dict[str, int] | None:
    """Compare the patches of the split with those that the model has seen; None where there is nothing to compare."""
    earlier = SEEN_BEFORE[config.split]
    if not earlier:
        return None
    frame = read_manifest(config.manifest)
    source, seen = config.model / PICTURES, read_pictures(config.model)
    if seen is None:
        # Trained before it was written down; the splits of the manifest are the next best thing.
        logger.warning("%s: is missing, so pictures are compared within %s alone", source, config.manifest)
        source, seen = config.manifest, with_hashes(frame[frame["split"].isin(earlier)], config.manifest)
    seen = seen[seen["split"].isin(earlier)]
    measured = with_hashes(frame[frame["split"] == config.split], config.manifest)
    both = pd.concat([seen, measured], ignore_index=True)
    # What the training had on both of its own sides was accepted there.
    sides = both.assign(split=both["split"].where(both["split"] == config.split, " and ".join(earlier)))
    near = check_duplicates(sides, side="split", source=source, near=config.near_duplicates)
    return {
        "measured": len(measured),
        "seen": len(seen),
        "unreadable": int(both["pixel_hash"].isna().sum()),
        "too_smooth": int((both["pixel_hash"].notna() & both["perceptual_hash"].isna()).sum()),
        "nearly_the_same": near,
    }
