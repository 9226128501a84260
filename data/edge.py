"""Edges of the coverslip and the slide, and rims of air bubbles: grey without any stain."""

import numpy as np

from data.pen import dilate, keep_large
from data.stain import Planes

# Clearly darker than glass: vignettes of scanners and seams of stitched fields stay below.
LOWEST_DENSITY = 0.08
# Lowest over highest channel; below it are all but 0.7 % of the tissue of real slides, in specks.
SMALLEST_NEUTRAL = 0.75
SMALLEST_EDGE_UM2 = 20_000.0
# An edge that is seen along half of a side of the slide is taken to run on, straight, under the tissue.
SMALLEST_SUPPORT = 0.5
STRAIGHTNESS_UM = 16.0
STEEPEST = 0.1
# Refraction tints the glass beside an edge, which would pass for a thin strip of tissue.
FRINGE_UM = 12.0


def is_grey(planes: Planes) -> np.ndarray:
    """Return a bool (H, W) mask of what is darker than glass in all channels alike."""
    return (planes.mean > LOWEST_DENSITY) & (planes.lowest > SMALLEST_NEUTRAL * planes.highest)


def find_edges(grey: np.ndarray, *, mpp: float) -> np.ndarray:
    """Return a bool (H, W) mask of the edges among what is `grey` (H, W) and no ink, at `mpp` µm/px.

    Small things, such as dust and pigment, are not edges. A straight edge along a side of the slide is followed to
    where tissue hides its greyness.
    """
    edge = keep_large(grey, smallest_px=SMALLEST_EDGE_UM2 / mpp**2)
    if not edge.any():
        return edge
    seen = edge.copy()
    for turns in range(4):
        # Turned so that the side looked at lies on the left; both are views, so the fill arrives in `edge`.
        _fill_straight(np.rot90(edge, turns), seen=np.rot90(seen, turns), tolerance_px=max(2.0, STRAIGHTNESS_UM / mpp))
    return dilate(edge, radius_um=FRINGE_UM, mpp=mpp)


def _fill_straight(edge: np.ndarray, *, seen: np.ndarray, tolerance_px: float) -> None:
    """Fill the gaps of a straight edge in the left half of `seen` (H, W) into `edge` (H, W)."""
    seen = seen[:, : max(1, seen.shape[1] // 2)]
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) < max(2.0, SMALLEST_SUPPORT * len(seen)):
        return
    innermost = seen.shape[1] - 1 - seen[rows, ::-1].argmax(axis=1)
    # The line of Theil and Sen: half of its rows may be specks or the edges of other sides.
    half = len(rows) // 2
    slope = float(np.median((innermost[-half:] - innermost[:half]) / (rows[-half:] - rows[:half])))
    start = float(np.median(innermost - slope * rows))
    on_line = np.abs(innermost - start - slope * rows) <= tolerance_px
    if abs(slope) > STEEPEST or on_line.sum() < SMALLEST_SUPPORT * len(seen):
        return
    width = float(np.median(seen[rows[on_line]].sum(axis=1)))
    missing = np.setdiff1d(np.arange(len(seen)), rows[on_line])
    inwards = (start + slope * missing)[:, None] - np.arange(seen.shape[1])
    edge[missing, : seen.shape[1]] |= (inwards >= 0) & (inwards <= width)
