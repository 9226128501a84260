"""Labelled patches become a manifest: every row is checked before anything is trained on it."""

import os
import tempfile
from pathlib import Path

import pandas as pd

from data.check_images import check_images, note_same_pixels, note_unreadable
from data.check_rows import check_patients_of_splits, check_rows
from data.config import PrepareConfig
from data.describe_rows import mask_classes, repeated_descriptions, summary
from data.errors import InputError
from data.manifest import COLUMNS, check_patients_apart, read_manifest, write_manifest
from data.patients import assign_patients, check_patient_settings
from data.problems import Problems
from data.sources.registry import read_source
from data.sources.row import Source
from data.split import assign_splits
from data.taxonomy import Taxonomy, load_taxonomy


def prepare(config: PrepareConfig) -> Path:
    """Write the manifest that `config` asks for and return its path.

    Everything that is wrong with the source is found in one pass and listed on stderr.

    Raises:
        InputError: the source cannot be read, or the first thing that is wrong with it.
    """
    taxonomy = load_taxonomy(config.taxonomy)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    # Images that lie inside the source are kept here until all of it is found to be good.
    with tempfile.TemporaryDirectory(dir=config.out.parent, prefix=f".{config.out.stem}-") as folder:
        images = Path(folder) / "images"
        images.mkdir()
        source = read_source(config.source, images=images)
        frame = _checked(source, config, taxonomy)
        home = source.base if config.images is None else config.images
        if source.embedded:
            home = _image_folder(config.out)
        frame["image"] = [_relative(home / name, config.out.parent) for name in frame["file_name"]]
        frame = _split(frame, config).loc[:, list(COLUMNS)]
        known = _is_known(frame, config.out)
        if source.embedded:
            _keep_images(images, home)
        if not known:
            write_manifest(frame, config.out)
    print(summary(frame, taxonomy))
    print(f"{config.out}: {_training(frame)}")
    return config.out


def _checked(source: Source, config: PrepareConfig, taxonomy: Taxonomy) -> pd.DataFrame:
    """The rows of `source` with what their images are; raises where anything is wrong with them."""
    if not source.rows:
        raise InputError(f"{source.path}: holds no rows; add one per patch")
    pattern = check_patient_settings(source, config) if any(row.fault is None for row in source.rows) else None
    problems = Problems(source.path)
    frame = check_rows(source, config, taxonomy, problems)
    if frame.empty:
        problems.check()
    base = source.base if config.images is None or source.embedded else config.images
    images = check_images([base / name for name in frame["file_name"]])
    note_unreadable(images, frame["where"], problems)
    frame["size_px"] = [image.side for image in images]
    frame["pixels"] = [image.pixels for image in images]
    assign_patients(frame, pattern, config, problems)
    check_patients_of_splits(frame, problems)
    notes = [
        note_same_pixels(frame, problems),
        mask_classes(frame, taxonomy, replace=config.mask_classes),
        repeated_descriptions(frame["description"]),
        _questions(source),
    ]
    for note in filter(None, notes):
        print(f"{source.path}: {note}")
    problems.check()
    return frame


def _questions(source: Source) -> str | None:
    questions = {row.question for row in source.rows if row.question}
    count = f"{len(questions)} question" + ("s" if len(questions) > 1 else "")
    return f"its chats ask {count}, which fine-tuning does not use: it asks its own" if questions else None


def _split(frame: pd.DataFrame, config: PrepareConfig) -> pd.DataFrame:
    """`frame` with the splits it gives, or with new ones."""
    if frame["split"].isna().all():
        frame["split"] = assign_splits(
            # Without classes all patients are dealt alike.
            frame.assign(label=frame["label"].fillna("")),
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            seed=config.seed,
            source=config.source,
        )
    check_patients_apart(frame, source=config.source)
    return frame


def _training(frame: pd.DataFrame) -> str:
    """What the two trainings will find in the manifest."""
    pairs = frame[frame["description"].notna()].groupby("split").size()
    labelled = frame[frame["label"].notna()].groupby("split").size()
    return (
        f"fine-tuning has {pairs.get('train', 0)} pairs to train on and {pairs.get('val', 0)} to validate, "
        f"the fusion {labelled.get('train', 0)} labelled patches and {labelled.get('val', 0)}"
    )


def _relative(path: Path, home: Path) -> str:
    return Path(os.path.relpath(path.absolute(), home.resolve())).as_posix()


def _is_known(frame: pd.DataFrame, out: Path) -> bool:
    """Whether `out` holds this manifest; one of other rows is an error, so that a split is never changed unnoticed."""
    if not out.exists():
        return False
    columns = ["patch_id", "patient_id", "label", "description", "split"]
    known, new = read_manifest(out)[columns], frame[columns].astype(object).where(frame[columns].notna(), None)
    if known.astype(object).to_dict("records") != new.to_dict("records"):
        raise InputError(f"{out}: holds a manifest of other rows or splits; choose another --out or remove it")
    return True


def _image_folder(out: Path) -> Path:
    """Where the images go that lay inside the source."""
    return out.with_name(f"{out.stem}-images")


def _keep_images(images: Path, folder: Path) -> None:
    """Move `images` to `folder`; one that exists must hold the same files."""
    if not folder.exists():
        images.rename(folder)
        return
    for path in images.rglob("*"):
        kept = folder / path.relative_to(images)
        if path.is_file() and (not kept.is_file() or kept.read_bytes() != path.read_bytes()):
            raise InputError(f"{kept}: not the image of the source; choose another --out or remove {folder}")
