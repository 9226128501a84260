"""How sharp tiles are, and which lie out of focus."""

import cv2
import numpy as np

# Sharp tiles of one slide lie above 0.7 times its median; a blur of 3 px brings them to 0.1-0.4.
BLUR_RATIO = 0.6
# Reached by a blur of 4 px or more whatever the tissue, so a slide that is out of focus throughout is seen too.
BLUR_LIMIT = 0.05
# Variance of scanner noise: keeps an even tile from being judged by its noise.
NOISE_VARIANCE = 4.0
PARTS = 4
BRIGHTEST_TISSUE = 225.0


def sharpness(tile: np.ndarray, *, upsampling: float = 1.0) -> float:
    """Return the energy of the finest details of a tile over that of details up to 3 px.

    `tile` is RGB uint8 (H, W, 3), `upsampling` how many times finer than the file it is: invented pixels are left out.
    The energy of the Laplacian (Pertuz et al., Pattern Recognition 2013) depends on how strong and how dense the
    nuclei are; as a share of the band below, only on focus. The median over 4 x 4 parts of the tile, so that a sharp
    corner does not hide a blurred tile.
    """
    side = round(tile.shape[0] / upsampling)
    if side < tile.shape[0]:
        tile = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Slight smoothing keeps scanner noise from passing for detail.
    fine = cv2.GaussianBlur(grey, (0, 0), 1.0)
    coarse = fine - cv2.GaussianBlur(fine, (0, 0), 3.0)
    laplacian = cv2.Laplacian(fine, cv2.CV_32F)
    detail, band, light = (
        cv2.resize(plane, (PARTS, PARTS), interpolation=cv2.INTER_AREA)
        for plane in (laplacian * laplacian, coarse * coarse, grey)
    )
    scores = detail / (band + NOISE_VARIANCE)
    # Glass has no detail to be in focus.
    tissue = light < BRIGHTEST_TISSUE
    return float(np.median(scores[tissue] if tissue.any() else scores))


def out_of_focus(scores: np.ndarray) -> np.ndarray:
    """Return bool (N,): tiles whose `sharpness` (N,) lies far below the median of their slide, or very low at all."""
    if not len(scores):
        return np.zeros(0, dtype=bool)
    return scores < max(BLUR_RATIO * float(np.median(scores)), BLUR_LIMIT)
