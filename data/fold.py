"""Folds in a section: bands where the tissue lies double and so absorbs about twice as much."""

from collections.abc import Callable

import cv2
import numpy as np

from data.pen import dilate, disc, keep_large
from data.stain import channel_mean

SMOOTHING_UM = 5.0
NEIGHBOURHOOD_UM = 500.0
DENSITY_RATIO = 1.4
LOWEST_DENSITY = 0.25
SMALLEST_FOLD_UM2 = 3_000.0
# Length over mean width; nests of cells are rounder.
SLENDERNESS = 3.0
# Over the densest fifth of the tissue right beside it; 1.6-1.9 in drawn folds, below 1.3 in strands of cells.
CONTRAST = 1.4
# Over the densest tenth of the slide's tissue: tells a fold from a dense strand in pale stroma.
EXCESS = 1.35
# A fold doubles both stains, so its hue stays near its neighbours'; beside it epithelium reaches 1.8 by haematoxylin.
LARGEST_HUE_CHANGE = 1.6
RING_FROM_UM, RING_TO_UM = 12.0, 60.0
FRINGE_UM = 8.0


def find_folds(density: np.ndarray, *, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Return a bool (H, W) mask of folds inside `tissue` (H, W).

    `density` is the optical density (H, W, 3) of an overview at `mpp` µm/px. A fold is a long component, much
    denser than the tissue beside it and than the densest tissue elsewhere, of the red to green ratio of its neighbours.
    """
    folds = np.zeros(tissue.shape, dtype=bool)
    if not tissue.any():
        return folds
    inside = tissue.astype(np.float32)
    smooth = _mean_inside(density, inside, lambda plane: cv2.GaussianBlur(plane, (0, 0), max(0.5, SMOOTHING_UM / mpp)))
    side = 2 * round(NEIGHBOURHOOD_UM / 2 / mpp) + 1
    mean = channel_mean(smooth)
    usual = _mean_inside(channel_mean(density), inside, lambda plane: cv2.blur(plane, (side, side)))
    darkest = EXCESS * float(np.percentile(mean[tissue], 90))
    dark = tissue & (mean > DENSITY_RATIO * usual) & (mean > LOWEST_DENSITY)
    dark = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, disc(FRINGE_UM / mpp)).astype(bool)
    dark = keep_large(dark, smallest_px=SMALLEST_FOLD_UM2 / mpp**2)
    hue = smooth[..., 0] / np.maximum(smooth[..., 1], 1e-3)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8), connectivity=8)
    margin = round(RING_TO_UM / mpp) + 1
    for label, (left, top, width, height, area) in enumerate(boxes[1:].tolist(), start=1):
        window = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
        component = labels[window] == label
        # A bent fold fills its box badly; length over mean width is length² over area.
        _, (across, down), _ = cv2.minAreaRect(np.argwhere(component).astype(np.float32))
        slenderness = (max(across, down) + 1) ** 2 / area
        ring = dilate(component, radius_um=RING_TO_UM, mpp=mpp) & ~dilate(component, radius_um=RING_FROM_UM, mpp=mpp)
        ring &= tissue[window]
        if slenderness < SLENDERNESS or not ring.any():
            continue
        density_here = float(np.median(mean[window][component]))
        contrast = density_here / float(np.percentile(mean[window][ring], 80))
        change = float(np.median(hue[window][component]) / max(np.median(hue[window][ring]), 1e-3))
        if contrast >= CONTRAST and density_here >= darkest and 1 / LARGEST_HUE_CHANGE <= change <= LARGEST_HUE_CHANGE:
            folds[window] |= component
    return dilate(folds, radius_um=FRINGE_UM, mpp=mpp) & tissue


def _mean_inside(values: np.ndarray, inside: np.ndarray, smooth: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Smooth `values` (H, W) or (H, W, C) where `inside` (H, W) is 1, leaving the other pixels out of every mean."""
    share = np.maximum(smooth(inside), 1e-3)
    if values.ndim == 2:
        return smooth(values * inside) / share
    return smooth(values * inside[..., None]) / share[..., None]
