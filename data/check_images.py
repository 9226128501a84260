"""Decode every image of a source, and find those that hold the same pixels."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from data.errors import InputError
from data.image import read_image
from data.patch_hashes import pixel_hash
from data.perceptual_hash import perceptual_hash
from data.problems import Problems


@dataclass(frozen=True)
class CheckedImage:
    """What one decoded image turned out to be."""

    side: int | None
    """Its longer side in px; None where it could not be read."""
    pixel_hash: str | None
    """Of its size and RGB pixels."""
    perceptual_hash: str | None = None
    """Of what it looks like; None where it is too smooth."""
    missing: bool = False
    reason: str = ""
    """Why it could not be read."""


def check_images(paths: Sequence[Path]) -> list[CheckedImage]:
    """Decode `paths` to the last pixel, in threads, with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(tqdm(pool.map(_check, paths), total=len(paths), desc="Checking images", unit="image"))


def note_unreadable(images: Sequence[CheckedImage], places: Sequence[str], problems: Problems) -> None:
    """Note images that are missing or do not decode."""
    broken = [(place, image) for place, image in zip(places, images, strict=True) if image.side is None]
    problems.add(
        [(place, image.reason) for place, image in broken if image.missing],
        "correct the path, or name the folder that paths start from with --images",
        unit="images",
    )
    problems.add(
        [(place, image.reason) for place, image in broken if not image.missing], "replace or remove it", unit="images"
    )


def note_same_pixels(frame: pd.DataFrame, problems: Problems) -> str | None:
    """Note images that occur under two patients or in two splits; a line about all that occur twice, if any.

    Args:
        frame: the columns where, patch_id, patient_id, split, and pixel_hash.
    """
    same = frame.dropna(subset=["pixel_hash"])
    same = same[same.duplicated("pixel_hash", keep=False)]
    if same.empty:
        return None
    groups = same.groupby("pixel_hash", sort=False)
    first = groups.transform("first")
    for column, called in (("split", "split"), ("patient_id", "patient")):
        apart = same[same[column].notna() & (same[column] != first[column])]
        what = apart["patch_id"] + " holds the same pixels as " + first["patch_id"][apart.index]
        problems.add(
            zip(apart["where"], what + f" of another {called}", strict=True),
            f"keep one of them, or give both the same {called}",
            unit="images",
        )
    names = ", ".join(next(iter(groups))[1]["patch_id"].head(2))
    return f"{len(same)} images hold the same pixels as another, {groups.ngroups} different ones (first: {names})"


def _check(path: Path) -> CheckedImage:
    try:
        array = read_image(path)
    except InputError as error:
        # What to do about it is said for all of them together.
        missing = isinstance(error.__cause__, FileNotFoundError)
        return CheckedImage(None, None, missing=missing, reason=str(error).rpartition("; ")[0])
    return CheckedImage(max(array.shape[:2]), pixel_hash(array), perceptual_hash(array))
