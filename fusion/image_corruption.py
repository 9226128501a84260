"""Make patches worse on purpose, in the ways that slides and scanners do."""

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from fusion.augment import STAINS

# At the full rate; 0 leaves the patch as it is.
_BLUR_SIGMA = 4.0
_NOISE_SIGMA = 40.0
_STAIN_FACTOR = 0.6
_WORST_JPEG = 5


def blur(patch: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: a Gaussian of up to 4 pixels, at a side of 224."""
    sigma = _BLUR_SIGMA * rate * patch.shape[0] / 224
    return cv2.GaussianBlur(patch, (0, 0), sigma) if sigma > 0 else patch


def stain_shift(patch: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Another laboratory: the densities of haematoxylin and eosin changed by up to 60 %, each up or down."""
    stains = (STAINS / STAINS.norm(dim=1, keepdim=True)).numpy()
    scale = np.ones(3)
    scale[:2] += _STAIN_FACTOR * rate * rng.choice((-1, 1), size=2)
    density = -np.log(np.clip(patch, 1, 255) / 255.0)
    changed = density @ (np.linalg.inv(stains) @ np.diag(scale) @ stains)
    return (np.exp(-changed) * 255).round().clip(0, 255).astype(np.uint8)


def jpeg(patch: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Compressed with a quality that falls from 95 to 5."""
    if not rate:
        return patch
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, "JPEG", quality=round(95 - (95 - _WORST_JPEG) * rate))
    return np.asarray(Image.open(buffer))


def noise(patch: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of up to 40 grey levels on each channel."""
    return (patch + rng.normal(0, _NOISE_SIGMA * rate, patch.shape)).round().clip(0, 255).astype(np.uint8)


IMAGE_CORRUPTIONS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "blur": blur,
    "stain shift": stain_shift,
    "JPEG": jpeg,
    "noise": noise,
}
