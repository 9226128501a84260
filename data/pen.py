"""Pen marks on a slide, told from stained tissue by the channels that ink absorbs."""

import cv2
import numpy as np

from data.stain import Density

SMALLEST_MARK_UM2 = 4_000.0
# Strokes are wider than this; pigment and refracting edges are not.
NARROWEST_STROKE_UM = 24.0
# How far a mark is followed over tissue, whose stain blurs the colour of the ink.
REACH_UM = 400.0
# Times the red density that three quarters of the tissue stay below; ink seldom covers more than the last quarter.
DARKER = 1.5
LOWEST_RED = 0.4
FRINGE_UM = 12.0
NEAREST_GLASS_UM = 24.0
SMALLEST_GLASS_CONTACT = 0.15
SMALLEST_EDGE_CONTACT = 0.5


def find_pen(density: Density, *, glass: np.ndarray, grey: np.ndarray, mpp: float) -> np.ndarray:
    """Return a bool (H, W) mask of black, blue, green and red pen marks with their pale fringe.

    `density` is that of an overview at `mpp` µm/px, `glass` and `grey` bool (H, W) masks of what is certainly clear
    and of what absorbs all colours alike. Haematoxylin and eosin absorb green most: on real slides red/green stays
    below 1.1 and blue/green below 0.9. Blue and green ink absorb red more than green light, black ink all alike and
    strongly; where it is bordered by paler grey it is no ink but the darkest part of an edge. Red ink differs little
    from blood, so it counts only where a part of its outline lies on glass. A mark is found where the colour is
    pure and followed to where it covers tissue.
    """
    cold, black, warm = (np.empty(glass.shape, dtype=bool) for _ in range(3))
    for rows, planes in density.bands():
        red, green, blue = planes.red, planes.green, planes.blue
        cold[rows] = (red > 1.15 * green) & (planes.highest > 0.35)
        black[rows] = grey[rows] & (planes.lowest > 0.84 * planes.highest) & (planes.mean > 0.5)
        warm[rows] = (red < 0.25 * green) & (blue > 0.72 * green) & (blue < 1.05 * green) & (green > 0.6)
    strokes = _strokes(black, mpp=mpp)
    edge = _bordered(strokes, by=grey & ~black, share=SMALLEST_EDGE_CONTACT, mpp=mpp)
    ink = _strokes(cold, mpp=mpp) | (strokes & ~edge)
    if ink.any():
        ink = _follow(ink, onto=cold | (black & ~edge) | _under_ink(density, glass), mpp=mpp)
    red_ink = _bordered(_strokes(warm, mpp=mpp), by=glass, share=SMALLEST_GLASS_CONTACT, mpp=mpp)
    if red_ink.any():
        ink |= _follow(red_ink, onto=warm | _under_red_ink(density), mpp=mpp)
    return dilate(ink, radius_um=FRINGE_UM, mpp=mpp)


def keep_large(mask: np.ndarray, *, smallest_px: float) -> np.ndarray:
    """Return `mask` (H, W) without the 8-connected components of fewer than `smallest_px` pixels."""
    large = np.zeros_like(mask)
    # Labelling takes longer than all else, so only the part that holds anything is labelled.
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width:
        window = np.s_[top : top + height, left : left + width]
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask[window].view(np.uint8), connectivity=8)
        kept = statistics[:, cv2.CC_STAT_AREA] >= smallest_px
        kept[0] = False
        large[window] = kept[labels]
    return large


def disc(radius_px: float) -> np.ndarray:
    """Structuring element uint8 of a disc; a single pixel for a radius below half a pixel."""
    side = 2 * round(radius_px) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def dilate(mask: np.ndarray, *, radius_um: float, mpp: float) -> np.ndarray:
    """Return the bool `mask` (H, W) grown by `radius_um`."""
    return cv2.dilate(mask.view(np.uint8), disc(radius_um / mpp)).view(bool)


def _under_ink(density: Density, glass: np.ndarray) -> np.ndarray:
    """Return where ink may lie over tissue, (H, W): stain lets red light through, ink does not."""
    window, sample = density.sample()
    stained = ~glass[window] & (sample.red < sample.green) & (sample.green > sample.blue)
    darkest = DARKER * float(np.percentile(sample.red[stained], 75)) if stained.any() else 0.0
    under = np.empty(glass.shape, dtype=bool)
    for rows, planes in density.bands():
        under[rows] = (planes.red > max(darkest, LOWEST_RED)) & (planes.red > 0.5 * planes.green)
    return under


def _under_red_ink(density: Density) -> np.ndarray:
    under = np.empty(density.pixels.shape[:2], dtype=bool)
    for rows, planes in density.bands():
        under[rows] = (planes.red < 0.42 * planes.green) & (planes.blue > 0.55 * planes.green) & (planes.green > 0.9)
    return under


def _strokes(pure: np.ndarray, *, mpp: float) -> np.ndarray:
    """Return the parts of `pure` (H, W) that are as wide and large as a stroke of a pen."""
    stroke = cv2.morphologyEx(pure.view(np.uint8), cv2.MORPH_OPEN, disc(NARROWEST_STROKE_UM / 2 / mpp)).view(bool)
    return keep_large(stroke, smallest_px=SMALLEST_MARK_UM2 / mpp**2)


def _follow(core: np.ndarray, *, onto: np.ndarray, mpp: float) -> np.ndarray:
    """Return `core` (H, W) with what is connected to it through `onto` (H, W) nearby."""
    # A distance costs the same however far it reaches, which a dilation does not.
    near = cv2.distanceTransform((~core).view(np.uint8), cv2.DIST_L2, 3) <= REACH_UM / mpp
    count, labels = cv2.connectedComponents((core | (onto & near)).view(np.uint8), connectivity=8)
    kept = np.zeros(count, dtype=bool)
    kept[labels[core]] = True
    return kept[labels]


def _bordered(mask: np.ndarray, *, by: np.ndarray, share: float, mpp: float) -> np.ndarray:
    """Return the components of `mask` (H, W) that have `by` (H, W) along at least `share` of their outline."""
    kept = np.zeros_like(mask)
    if not mask.any():
        return kept
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    margin = round(NEAREST_GLASS_UM / mpp) + 2
    for label, (left, top, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
        window = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
        component = labels[window] == label
        # Soft edges of a stroke are neither ink nor glass, so the outline is looked at a little further out.
        outline = dilate(component, radius_um=NEAREST_GLASS_UM, mpp=mpp) & ~dilate(
            component, radius_um=NEAREST_GLASS_UM - mpp, mpp=mpp
        )
        if outline.any() and by[window][outline].mean() >= share:
            kept[window] |= component
    return kept
