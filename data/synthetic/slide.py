"""Whole slides: pieces of tissue on glass with a fold, a pen mark, an area out of focus and an edge, as a TIFF."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from data.atomic import atomic
from data.synthetic.amounts import draw_amounts, draw_findings
from data.synthetic.artefacts import (
    EDGE,
    FOLD,
    OUT_OF_FOCUS,
    PEN,
    TISSUE,
    add_edge,
    add_fold,
    add_out_of_focus,
    add_pen,
)
from data.synthetic.layout import grid_shape, lay_out
from data.synthetic.shape import draw_pieces, draw_regions
from data.synthetic.style import PatientStyle
from data.synthetic.tissue import check_resolution, expose, render_window
from data.taxonomy import Subtype, Taxonomy

TRUTH_STEP = 16
"""Pixels of the slide per pixel of its truth mask."""
_LEVELS = (1, 4, 16)
_TILE = 256
_BLOCK_PX = 448


@dataclass(frozen=True)
class DrawnSlide:
    """A slide, and what is where on it."""

    image: NDArray[np.uint8]
    """RGB (H, W, 3)."""
    truth: NDArray[np.uint8]
    """0 glass, 1 tissue, 2 pen, 3 fold, 4 out of focus, 5 edge of coverslip or slide; (H / 16, W / 16)."""


def draw_slide(
    subtype: Subtype,
    taxonomy: Taxonomy,
    style: PatientStyle,
    *,
    size_px: int,
    mpp: float,
    rng: np.random.Generator,
    rare_findings: float = 0.0,
) -> DrawnSlide:
    """Draw a slide of `subtype`, `size_px` wide and high (a multiple of 16), at `mpp` micrometres per pixel.

    Each region of about 225 µm has findings of its own, all of which satisfy the rule of the class but for a share of
    about `rare_findings`.

    Raises:
        InputError: the taxonomy cannot be drawn, or `mpp` is outside 0.2 to 2.
    """
    check_resolution(mpp)
    shape = grid_shape(size_px, size_px, mpp)
    glass = draw_pieces(shape, rng)
    regions = draw_regions(shape, rng)
    amounts = [
        draw_amounts(draw_findings(subtype, taxonomy, rng, rare=rare_findings), taxonomy, rng)
        for _ in range(int(regions.max()) + 1)
    ]
    layout = lay_out(
        width_px=size_px, height_px=size_px, mpp=mpp, regions=regions, amounts=amounts, glass=glass, rng=rng
    )
    small = (size_px // TRUTH_STEP, size_px // TRUTH_STEP)
    tissue = cv2.resize((glass > 0).astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.5
    reached = cv2.dilate(tissue.astype(np.uint8), np.ones((7, 7), np.uint8))
    image = np.empty((size_px, size_px, 3), dtype=np.uint8)
    for y in range(0, size_px, _BLOCK_PX):
        for x in range(0, size_px, _BLOCK_PX):
            width, height = min(_BLOCK_PX, size_px - x), min(_BLOCK_PX, size_px - y)
            under = reached[y // TRUTH_STEP : (y + height) // TRUTH_STEP, x // TRUTH_STEP : (x + width) // TRUTH_STEP]
            image[y : y + height, x : x + width] = (
                render_window(layout, style, x=x, y=y, width=width, height=height, rng=rng)
                if under.any()
                else expose(style, x=x, y=y, width=width, height=height, mpp=mpp, light=1.0, rng=rng)
            )
    truth = tissue.astype(np.uint8) * TISSUE
    fold = add_fold(image, tissue, style, mpp=mpp, rng=rng)
    blurred = add_out_of_focus(image, tissue, mpp=mpp, rng=rng)
    pen = add_pen(image, tissue, mpp=mpp, rng=rng)
    # The last, so that what was drawn before does not depend on it.
    edge = add_edge(image, small, style, mpp=mpp, rng=rng)
    for mask, value in ((blurred, OUT_OF_FOCUS), (fold, FOLD), (pen, PEN), (edge, EDGE)):
        truth[mask] = value
    return DrawnSlide(image=image, truth=truth)


def write_slide(image: NDArray[np.uint8], path: Path, *, mpp: float, jpeg_quality: int) -> None:
    """Write RGB (H, W, 3) as a tiled pyramid of three levels that OpenSlide opens, with its resolution."""
    pixels_per_cm = 10_000 / mpp
    with atomic(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        for step in _LEVELS:
            size = (max(1, image.shape[1] // step), max(1, image.shape[0] // step))
            level = image if step == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            writer.write(
                level,
                tile=(_TILE, _TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": jpeg_quality},
                resolution=(pixels_per_cm / step, pixels_per_cm / step),
                resolutionunit="CENTIMETER",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
                software="",
            )
