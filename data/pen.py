"""Pen marks on a slide, told from stained tissue by the channels that ink absorbs."""

import cv2
import numpy as np

from data.stain import channel_mean, channel_range

SMALLEST_MARK_UM2 = 6_000.0
# Strokes are wider than this; pigment and refracting edges are not.
NARROWEST_STROKE_UM = 24.0
# How far a mark is followed over tissue, whose stain blurs the colour of the ink.
REACH_UM = 400.0
DARKER = 1.3
LOWEST_RED = 0.4
FRINGE_UM = 20.0
NEAREST_GLASS_UM = 24.0
SMALLEST_GLASS_CONTACT = 0.25


def find_pen(density: np.ndarray, *, glass: np.ndarray, mpp: float) -> np.ndarray:
    """Return a bool (H, W) mask of black, blue, green and red pen marks with their pale fringe.

    `density` is the optical density (H, W, 3) of an overview at `mpp` µm/px, `glass` a bool (H, W) mask of what is
    certainly clear. Haematoxylin and eosin absorb green most: on real slides red/green stays below 1.1 and blue/green
    below 0.9. Blue and green ink absorb red more than green light, black ink all alike and strongly. Red ink differs
    little from blood, so it counts only where a quarter of its outline lies on glass. A mark is found where the
    colour is pure and followed to where it covers tissue.
    """
    red, green, blue = cv2.split(density)
    lowest, highest = channel_range(density)
    mean, neutral = channel_mean(density), lowest / np.maximum(highest, 1e-3)
    stained = ~glass & (red < green) & (green > blue)
    # Under ink the stain still shows, but red light, which stain lets through, does not.
    darkest = DARKER * float(np.percentile(red[stained], 90)) if stained.any() else 0.0
    under_ink = (red > max(darkest, LOWEST_RED)) & (red > 0.5 * green)
    cold = _follow((red > 1.15 * green) & (highest > 0.35), over_tissue=under_ink, mpp=mpp)
    black = _follow((neutral > 0.84) & (mean > 0.5), over_tissue=under_ink, mpp=mpp)
    warm = _follow(
        (red < 0.25 * green) & (blue > 0.6 * green) & (blue < 1.05 * green) & (green > 0.6),
        over_tissue=(red < 0.42 * green) & (blue > 0.55 * green) & (green > 0.9),
        mpp=mpp,
    )
    ink = cold | black | _beside_glass(warm, glass=glass, mpp=mpp)
    return dilate(ink, radius_um=FRINGE_UM, mpp=mpp)


def keep_large(mask: np.ndarray, *, smallest_px: float) -> np.ndarray:
    """Return `mask` (H, W) without the 8-connected components of fewer than `smallest_px` pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = statistics[:, cv2.CC_STAT_AREA] >= smallest_px
    kept[0] = False
    return kept[labels]


def disc(radius_px: float) -> np.ndarray:
    """Structuring element uint8 of a disc; a single pixel for a radius below half a pixel."""
    side = 2 * round(radius_px) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def dilate(mask: np.ndarray, *, radius_um: float, mpp: float) -> np.ndarray:
    """Return the bool `mask` (H, W) grown by `radius_um`."""
    return cv2.dilate(mask.astype(np.uint8), disc(radius_um / mpp)).astype(bool)


def _follow(pure: np.ndarray, *, over_tissue: np.ndarray, mpp: float) -> np.ndarray:
    stroke = cv2.morphologyEx(pure.astype(np.uint8), cv2.MORPH_OPEN, disc(NARROWEST_STROKE_UM / 2 / mpp)).astype(bool)
    core = keep_large(stroke, smallest_px=SMALLEST_MARK_UM2 / mpp**2)
    if not core.any():
        return core
    near = dilate(core, radius_um=REACH_UM, mpp=mpp)
    _, labels = cv2.connectedComponents((core | ((pure | over_tissue) & near)).astype(np.uint8), connectivity=8)
    return np.isin(labels, np.unique(labels[core]))


def _beside_glass(ink: np.ndarray, *, glass: np.ndarray, mpp: float) -> np.ndarray:
    """Return the components of `ink` (H, W) that have glass along a quarter of their outline."""
    kept = np.zeros_like(ink)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    margin = round(NEAREST_GLASS_UM / mpp) + 2
    for label, (left, top, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
        window = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
        component = labels[window] == label
        # Soft edges of a stroke are neither ink nor glass, so the outline is looked at a little further out.
        outline = dilate(component, radius_um=NEAREST_GLASS_UM, mpp=mpp) & ~dilate(
            component, radius_um=NEAREST_GLASS_UM - mpp, mpp=mpp
        )
        if outline.any() and glass[window][outline].mean() >= SMALLEST_GLASS_CONTACT:
            kept[window] |= component
    return kept
