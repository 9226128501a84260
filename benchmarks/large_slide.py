"""A synthetic slide of any size: one drawn slide laid out with its mirror images, written without holding it."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile

from data.atomic import atomic
from data.synthetic.slide import draw_slide
from data.synthetic.style import draw_style
from data.taxonomy import load_taxonomy

DRAWN_PX = 3072
FILE_TILE_PX = 256
LEVELS = (1, 4, 16)
MPP = 0.5


def write_large_slide(path: Path, *, size_px: int, seed: int = 7) -> Path:
    """Write a pyramidal JPEG TIFF of `size_px` squared (a multiple of 3072) at 0.5 µm/px, unless it is there."""
    if path.is_file():
        return path
    repeats = size_px // DRAWN_PX
    if repeats * DRAWN_PX != size_px:
        raise ValueError(f"size_px {size_px}: give a multiple of {DRAWN_PX}")
    taxonomy, rng = load_taxonomy("neuroblastoma"), np.random.default_rng(seed)
    style = draw_style(rng)
    subtype = next(iter(taxonomy.classes.values()))
    drawn = draw_slide(subtype, taxonomy, style, size_px=DRAWN_PX, mpp=MPP, rng=rng).image
    with atomic(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as writer:
        for step in LEVELS:
            side = DRAWN_PX // step
            level = drawn if step == 1 else cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA)
            writer.write(
                _tiles(level, repeats=repeats),
                shape=(size_px // step, size_px // step, 3),
                dtype=np.uint8,
                tile=(FILE_TILE_PX, FILE_TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                resolution=(10_000 / MPP / step, 10_000 / MPP / step),
                resolutionunit="CENTIMETER",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
                software="",
            )
    return path


def _tiles(level: np.ndarray, *, repeats: int) -> Iterator[np.ndarray]:
    """Tiles of the plane that is laid out with `level` (S, S, 3) and its mirror images, row by row."""
    side = len(level)
    total = side * repeats
    mirrored = np.concatenate([level, level[::-1]], axis=0)
    mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
    for top in range(0, total, FILE_TILE_PX):
        rows = np.arange(top, min(top + FILE_TILE_PX, total)) % (2 * side)
        for left in range(0, total, FILE_TILE_PX):
            columns = np.arange(left, min(left + FILE_TILE_PX, total)) % (2 * side)
            tile = np.full((FILE_TILE_PX, FILE_TILE_PX, 3), 255, dtype=np.uint8)
            tile[: len(rows), : len(columns)] = mirrored[rows[:, None], columns]
            yield tile
