"""Labelled patches become a manifest: every row is checked before anything is trained on it."""

import tempfile
from pathlib import Path

import pandas as pd

from data.check_duplicates import check_duplicates
from data.check_images import check_images, note_same_pixels, note_unreadable
from data.check_rows import check_patients_of_splits, check_rows
from data.config import PrepareConfig
from data.describe_rows import mask_classes, repeated_descriptions, summary
from data.errors import InputError
from data.inside import is_inside
from data.manifest import (
    COLUMNS,
    HASHES,
    LATER_COLUMNS,
    check_patients_apart,
    read_manifest,
    relative_image,
    write_manifest,
)
from data.near_duplicates import near_duplicates
from data.patients import assign_patients, check_patient_settings
from data.problems import Problems
from data.sites import assign_sites, check_sites, constant_sites
from data.sources.registry import read_source
from data.sources.row import Source
from data.split import assign_splits, assign_splits_by_site
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
        frame["image"] = [relative_image(home / name, config.out.parent) for name in frame["file_name"]]
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
    if config.outside == "refuse":
        _note_outside(frame, base, source, problems)
    images = check_images([base / name for name in frame["file_name"]])
    note_unreadable(images, frame["where"], problems)
    frame["size_px"] = [image.side for image in images]
    for column in HASHES:
        frame[column] = [getattr(image, column) for image in images]
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


def _note_outside(frame: pd.DataFrame, base: Path, source: Source, problems: Problems) -> None:
    """Note images that are not where the source is; none is opened before that is settled."""
    folders = [base, source.base, *([source.path] if source.path.is_dir() else [])]
    outside = [not is_inside(base / name, *folders) for name in frame["file_name"]]
    what = f"the image lies outside {base}"
    remedy = "name the folder that holds them with --images, or pass --outside allow if you trust the source"
    problems.mark(frame["where"], pd.Series(outside, index=frame.index), what, remedy)
    if any(outside):
        problems.check()


def _questions(source: Source) -> str | None:
    questions = {row.question for row in source.rows if row.question}
    count = f"{len(questions)} question" + ("s" if len(questions) > 1 else "")
    return f"its chats ask {count}, which fine-tuning does not use: it asks its own" if questions else None


def _split(frame: pd.DataFrame, config: PrepareConfig) -> pd.DataFrame:
    """`frame` with its sites, and with the splits it gives, or with new ones."""
    frame["site"] = assign_sites(frame, config.site_pattern, source=config.source)
    if config.by == "site":
        check_sites(frame, source=config.source)
    if frame["split"].isna().all():
        assign = assign_splits_by_site if config.by == "site" else assign_splits
        frame["split"] = assign(
            # Without classes all patients are dealt alike.
            frame.assign(label=frame["label"].fillna("")),
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            seed=config.seed,
            source=config.source,
        )
    check_patients_apart(frame, source=config.source)
    if config.by == "site":
        check_patients_apart(frame, source=config.source, column="site")
    check_duplicates(frame, side="split", source=config.source, near=config.near_duplicates)
    for note in filter(None, [_near_patients(frame), _too_smooth(frame), constant_sites(frame)]):
        print(f"{config.source}: {note}")
    return frame


def _near_patients(frame: pd.DataFrame) -> str | None:
    """A line about nearly equal patches of different patients in one split, which other splits may tear apart."""
    pairs = [
        (frame["patch_id"][pair.first], frame["patch_id"][pair.second])
        for pair in near_duplicates(list(frame["perceptual_hash"]), list(frame["patient_id"]))
        if frame["split"][pair.first] == frame["split"][pair.second]
    ]
    if not pairs:
        return None
    return (
        f"{len(pairs)} pairs of patches of different patients are nearly the same picture (first: "
        f"{' and '.join(pairs[0])}); if they are one patient, give them one patient_id"
    )


def _too_smooth(frame: pd.DataFrame) -> str | None:
    """A line about images that only equal pixels can tell from a copy, or None."""
    count = int((frame["pixel_hash"].notna() & frame["perceptual_hash"].isna()).sum())
    if not count:
        return None
    return f"{count} of {len(frame)} images are too smooth to find nearly equal ones; only equal pixels count for them"


def _training(frame: pd.DataFrame) -> str:
    """What the two trainings will find in the manifest."""
    pairs = frame[frame["description"].notna()].groupby("split").size()
    labelled = frame[frame["label"].notna()].groupby("split").size()
    return (
        f"fine-tuning has {pairs.get('train', 0)} pairs to train on and {pairs.get('val', 0)} to validate, "
        f"the fusion {labelled.get('train', 0)} labelled patches and {labelled.get('val', 0)}"
    )


def _is_known(frame: pd.DataFrame, out: Path) -> bool:
    """Whether `out` holds this manifest; one of other rows is an error, so that a split is never changed unnoticed.

    One from before there were sites and hashes is written again with them.
    """
    if not out.exists():
        return False
    new, known = frame.astype(object).where(frame.notna(), None), read_manifest(out).astype(object)
    columns = ["patch_id", "patient_id", "label", "description", "split"]
    if known[columns].to_dict("records") != new[columns].to_dict("records"):
        raise InputError(f"{out}: holds a manifest of other rows or splits; choose another --out or remove it")
    later = list(LATER_COLUMNS)
    return bool(known[later].to_dict("records") == new[later].to_dict("records"))


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
