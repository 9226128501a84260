"""What a user states of single slides: a CSV that wins over the slide's file."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.errors import InputError

YES, NO = ("yes", "true", "1"), ("no", "false", "0", "")


@dataclass(frozen=True)
class SlideOverride:
    """One row of a slide manifest."""

    mpp: float | None = None
    """µm per level-0 pixel."""
    any_stain: bool = False
    """Use the slide though it does not look like H&E."""


def read_slide_manifest(path: Path | None, slides: set[str]) -> dict[str, SlideOverride]:
    """Read the CSV with the column slide, and mpp or any_stain or both; every row names one of `slides`, once.

    Raises:
        InputError: no such file, no CSV, a column missing, or a row that cannot be used.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise InputError(f"{path}: no such slide manifest; give a CSV with the columns slide and mpp")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); a slide manifest has slide and mpp") from error
    if "slide" not in rows:
        raise InputError(f"{path}: column slide is missing; a slide manifest has the columns slide and mpp")
    if not {"mpp", "any_stain"} & set(rows):
        raise InputError(f"{path}: column mpp is missing; a slide manifest has the columns slide and mpp")
    overrides: dict[str, SlideOverride] = {}
    for line, row in enumerate(rows.to_dict("records"), 2):
        slide = str(row["slide"])
        if slide not in slides:
            raise InputError(f"{path}, line {line}: no slide {slide} below the folder; give its path below the folder")
        if slide in overrides:
            raise InputError(f"{path}, line {line}: the slide occurs twice; keep one row")
        overrides[slide] = SlideOverride(
            mpp=_mpp(str(row.get("mpp", "")), f"{path}, line {line}"),
            any_stain=_any_stain(str(row.get("any_stain", "")), f"{path}, line {line}"),
        )
    return overrides


def _mpp(text: str, place: str) -> float | None:
    if not text.strip():
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = math.nan
    if not math.isfinite(mpp):
        raise InputError(f"{place}: mpp is not a number; give µm per pixel, or leave it empty")
    return mpp


def _any_stain(text: str, place: str) -> bool:
    if text.strip().lower() not in YES + NO:
        raise InputError(f"{place}: any_stain is {text!r}; give yes or no")
    return text.strip().lower() in YES
