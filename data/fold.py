"""Folds in a section: bands where the tissue lies double and so absorbs about twice as much."""

import cv2
import numpy as np

from data.pen import dilate, disc
from data.stain import Density, Planes, bands, sample_window

SMOOTHING_UM = 5.0
NEIGHBOURHOOD_UM = 500.0
COARSER = 4
DENSITY_RATIO = 1.4
LOWEST_DENSITY = 0.25
SMALLEST_FOLD_UM2 = 3_000.0
# Length over mean width; nests of cells are rounder.
SLENDERNESS = 4.0
# Over the densest fifth of the tissue right beside it; 1.6-1.9 in drawn folds, below 1.3 in strands of cells.
CONTRAST = 1.4
# Over the densest tenth of the slide's tissue: tells a fold from a dense strand in pale stroma.
EXCESS = 1.1
# Both together: a fold in pale tissue is hardly denser than the dark tissue of the slide, but much denser than its own.
CONTRAST_AND_EXCESS = 1.85
# A fold doubles both stains, so its hue stays near its neighbours'; beside it epithelium reaches 1.8 by haematoxylin,
# and blood, which lets red light through, falls to 0.65.
SMALLEST_HUE_CHANGE, LARGEST_HUE_CHANGE = 0.8, 1.6
RING_FROM_UM, RING_TO_UM = 12.0, 60.0
FRINGE_UM = 8.0


def find_folds(density: Density, *, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Return a bool (H, W) mask of folds inside `tissue` (H, W).

    `density` is that of an overview at `mpp` µm/px. A fold is a long component, much denser than the tissue beside it
    and than the densest tissue elsewhere, of the red to green ratio of its neighbours.
    """
    folds = np.zeros(tissue.shape, dtype=bool)
    if not tissue.any():
        return folds
    mean, dark = _dark(density, tissue, mpp=mpp)
    sample = sample_window(tissue.shape)
    densest = float(np.percentile(mean[sample][tissue[sample]], 90)) if tissue[sample].any() else 0.0
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(dark.view(np.uint8), connectivity=8)
    boxes[0, cv2.CC_STAT_AREA] = 0
    margin = round(RING_TO_UM / mpp) + 1
    for label in np.flatnonzero(boxes[:, cv2.CC_STAT_AREA] >= SMALLEST_FOLD_UM2 / mpp**2):
        left, top, width, height, area = boxes[label].tolist()
        window = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
        component = labels[window] == label
        # A bent fold fills its box badly; length over mean width is length² over area.
        _, (across, down), _ = cv2.minAreaRect(np.argwhere(component).astype(np.float32))
        density_here = float(np.median(mean[window][component]))
        if (max(across, down) + 1) ** 2 / area < SLENDERNESS or density_here < EXCESS * densest:
            continue
        ring = dilate(component, radius_um=RING_TO_UM, mpp=mpp) & ~dilate(component, radius_um=RING_FROM_UM, mpp=mpp)
        ring &= tissue[window]
        if not ring.any():
            continue
        beside = float(np.percentile(mean[window][ring], 80))
        if density_here < CONTRAST * beside or density_here**2 < CONTRAST_AND_EXCESS * beside * densest:
            continue
        hue = _hue(density.planes(window), tissue[window], mpp=mpp)
        change = float(np.median(hue[component]) / max(np.median(hue[ring]), 1e-3))
        if SMALLEST_HUE_CHANGE <= change <= LARGEST_HUE_CHANGE:
            folds[window] |= component
    return dilate(folds, radius_um=FRINGE_UM, mpp=mpp) & tissue


def _dark(density: Density, tissue: np.ndarray, *, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the smoothed mean density (H, W), and where it exceeds the usual one nearby (H, W)."""
    inside = tissue.view(np.uint8) * np.uint8(255)
    # The mean of the tissue alone: what lies outside counts for nothing in the sum, nor in the share it is divided by.
    mean = np.empty(tissue.shape, dtype=np.float32)
    for rows, planes in density.bands():
        mean[rows] = planes.mean * tissue[rows]
    # A neighbourhood this wide loses nothing at a quarter of the size.
    small = tuple(-(-side // COARSER) for side in tissue.shape[::-1])
    side = 2 * round(NEIGHBOURHOOD_UM / 2 / mpp / COARSER) + 1
    total, share = (
        cv2.blur(cv2.resize(plane, small, interpolation=cv2.INTER_AREA), (side, side)) for plane in (mean, inside)
    )
    usual = cv2.resize(total * _inverse(share), tissue.shape[::-1], interpolation=cv2.INTER_LINEAR)
    sigma = max(0.5, SMOOTHING_UM / mpp)
    cv2.GaussianBlur(mean, (0, 0), sigma, dst=mean)
    cv2.GaussianBlur(inside, (0, 0), sigma, dst=inside)
    dark = np.empty(tissue.shape, dtype=bool)
    for rows in bands(len(tissue)):
        mean[rows] *= _inverse(inside[rows])
        dark[rows] = tissue[rows] & (mean[rows] > DENSITY_RATIO * usual[rows]) & (mean[rows] > LOWEST_DENSITY)
    return mean, cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_CLOSE, disc(FRINGE_UM / mpp)).view(bool)


def _inverse(share: np.ndarray) -> np.ndarray:
    """Return one over a share stored as 0-255."""
    return np.float32(255) / np.maximum(share, 1)


def _hue(planes: Planes, tissue: np.ndarray, *, mpp: float) -> np.ndarray:
    """Return the smoothed red over green density (H, W) of the tissue."""
    red, green = (
        cv2.GaussianBlur(plane * tissue, (0, 0), max(0.5, SMOOTHING_UM / mpp)) for plane in (planes.red, planes.green)
    )
    return red / np.maximum(green, 1e-3)
