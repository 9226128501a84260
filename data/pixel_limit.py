"""How many pixels an image may state before it is decoded: a small file can ask for all memory there is."""

import os
from pathlib import Path

from data.errors import InputError

VARIABLE = "MMLNB_MAX_IMAGE_PIXELS"
DEFAULT = 200_000_000
"""0.6 GB as RGB, twice that while it is converted."""


def max_image_pixels() -> int:
    """The limit: the environment's, which reaches every process of a run, or `DEFAULT`.

    Raises:
        InputError: the variable is no whole number above 0.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text and not (text.isdecimal() and int(text) > 0):
        raise InputError(f"{VARIABLE}={text}: give a whole number of pixels above 0")
    return int(text) if text else DEFAULT


def check_pixels(path: Path, width: int, height: int, *, what: str = "an image") -> None:
    """Raise InputError where decoding `what` in `path` at once would take more pixels than allowed."""
    limit = max_image_pixels()
    if width * height > limit:
        raise InputError(
            f"{path}: {what} of {width} x {height} px, above the limit of {limit:,} pixels; "
            f"leave it out, or set {VARIABLE} higher if you trust it"
        )
