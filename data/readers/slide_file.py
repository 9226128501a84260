"""What every reader of slide files offers, and the error it raises."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data.errors import InputError

# How far the sides of a level may be from what its downsample makes of level 0: cut-off edges and rounding.
LEVEL_SIDE_PX = 2.0
LEVEL_SIDE_SHARE = 0.02


class ReadError(InputError):
    """A region of a slide that cannot be read; others may still be."""


class SlideFile(Protocol):
    """One open slide file, used by one thread at a time.

    Its constructor takes the path and raises InputError where the file cannot be opened.
    """

    vendor: str
    """Name of the format."""
    dimensions: tuple[int, int]
    """Level-0 (width, height) in pixels."""
    downsamples: tuple[float, ...]
    """Level-0 pixels per pixel of each level, finest first; infinite for a level that must not be read."""
    properties: Mapping[str, str]
    """Of these, resolution is read from `openslide.mpp-x`, `openslide.mpp-y` and `openslide.objective-power`."""

    def read(self, *, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Return RGB uint8 (height, width, 3) of `level`, its corner at the level-0 pixel (x, y); white outside.

        Raises ReadError where the file is damaged; the file must then be closed and opened again.
        """
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def checked_downsamples(
    path: Path, downsamples: Sequence[float], level_dimensions: Sequence[tuple[int, int]]
) -> tuple[float, ...]:
    """Return `downsamples`, infinite where the (width, height) of the level contradict it.

    Such a level is padded or its header damaged, and its pixels do not lie where they seem to. Raises InputError where
    a level claims to be larger than the slide, which no writer does.
    """
    slide = level_dimensions[0]
    for level in level_dimensions:
        if level[0] > slide[0] or level[1] > slide[1]:
            raise InputError(
                f"{path}: a level of {level[0]} x {level[1]} px in a slide of {slide[0]} x {slide[1]}, expected none "
                "larger; the header is damaged, so replace the file or leave it out"
            )
    return tuple(
        float(own) if _agrees(own, slide=slide, level=level) else math.inf
        for own, level in zip(downsamples, level_dimensions, strict=True)
    )


def _agrees(downsample: float, *, slide: tuple[int, int], level: tuple[int, int]) -> bool:
    return downsample > 0 and all(
        abs(whole / downsample - side) <= max(LEVEL_SIDE_PX, LEVEL_SIDE_SHARE * side)
        for whole, side in zip(slide, level, strict=True)
    )
