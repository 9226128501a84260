"""Refuse the same picture on both sides of a split: by its pixels, and by what it looks like."""

import logging
from pathlib import Path
from typing import Literal

import pandas as pd

from data.errors import InputError
from data.near_duplicates import near_duplicates

NearDuplicates = Literal["refuse", "allow"]
REMEDY = "keep one of them, or give both one patient_id and split again"

logger = logging.getLogger(__name__)


def check_duplicates(frame: pd.DataFrame, *, side: str, source: Path, near: NearDuplicates = "refuse") -> int:
    """Refuse two rows of `frame` that hold the same picture and differ in the column `side`.

    Args:
        frame: the columns patch_id, pixel_hash, perceptual_hash and `side`; a row without hashes is not compared.
        side: split, patient_id or site.
        source: what the error names.
        near: whether pictures that are nearly the same are refused as well, or only counted in a warning.

    Returns:
        Pairs that are nearly the same; 0 unless they are allowed.

    Raises:
        InputError: naming the first pair, and how many there are.
    """
    _check_same(frame, side=side, source=source)
    return _check_near(frame, side=side, source=source, near=near)


def _check_same(frame: pd.DataFrame, *, side: str, source: Path) -> None:
    known = frame.dropna(subset=["pixel_hash", side])
    known = known[known.groupby("pixel_hash")[side].transform("nunique") > 1]
    if known.empty:
        return
    groups = known.groupby("pixel_hash", sort=False)
    group = next(iter(groups))[1]
    first = group.iloc[0]
    second = group[group[side] != first[side]].iloc[0]
    others = f" (and {groups.ngroups - 1} more pictures)" if groups.ngroups > 1 else ""
    raise InputError(
        f"{source}: patch {_named(second, side)} holds the same pixels as {_named(first, side)}{others}; {REMEDY}"
    )


def _check_near(frame: pd.DataFrame, *, side: str, source: Path, near: NearDuplicates) -> int:
    known = frame.dropna(subset=["perceptual_hash", side])
    pairs = near_duplicates(list(known["perceptual_hash"]), list(known[side]))
    if not pairs:
        return 0
    pair = pairs[0]
    first, second = known.iloc[pair.first], known.iloc[pair.second]
    others = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
    what = (
        f"{source}: patch {_named(second, side)} is nearly the same picture as {_named(first, side)}, "
        f"{pair.distance} of 256 bits apart{others}"
    )
    if near == "refuse":
        raise InputError(f"{what}; {REMEDY}, or accept it with --near_duplicates allow")
    logger.warning("%s; accepted by --near_duplicates allow", what)
    return len(pairs)


def _named(row: pd.Series, side: str) -> str:
    return f"{row['patch_id']} of the {side.removesuffix('_id')} {row[side]}"
