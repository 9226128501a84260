"""Optical density of stained tissue, the scale on which stains add up."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

# 8-bit scanners do not resolve more than about this; it also keeps black finite.
LOWEST_INTENSITY = 1.0
DARKEST_GLASS = 200
LARGEST_GLASS_SPREAD = 14
SMALLEST_GLASS_SHARE = 0.005
USUAL_GLASS = 245.0
# Rows taken at once, few enough that their density stays in the processor's cache.
BAND_ROWS = 64
# Figures of a whole slide (thresholds, percentiles) come from about this many of its pixels.
SAMPLE_PX = 1_000_000


@dataclass(frozen=True, eq=False)
class Planes:
    """Optical density, float32 (H, W) each, of one part of a slide."""

    red: np.ndarray
    green: np.ndarray
    blue: np.ndarray
    lowest: np.ndarray
    """Of the three channels: what grey things absorb."""
    highest: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean over the channels (H, W)."""
        return (self.red + self.green + self.blue) * np.float32(1 / 3)

    @property
    def chroma(self) -> np.ndarray:
        """Spread over the channels (H, W); 0 for grey."""
        return self.highest - self.lowest


@dataclass(frozen=True, eq=False)
class Density:
    """Optical density of an overview, worked out part by part: whole, it would take four times the pixels' memory."""

    pixels: np.ndarray
    """RGB uint8 (H, W, 3)."""
    white: np.ndarray
    """Colour of clear glass, float32 (3,)."""

    def planes(self, window: tuple[slice, slice]) -> Planes:
        """Return the density of the rows and columns of `window`."""
        red, green, blue = cv2.split(optical_density(self.pixels[window], white=self.white))
        return Planes(
            red=red,
            green=green,
            blue=blue,
            lowest=cv2.min(cv2.min(red, green), blue),
            highest=cv2.max(cv2.max(red, green), blue),
        )

    def bands(self) -> Iterator[tuple[slice, Planes]]:
        """Yield the whole overview as bands of rows, from top to bottom."""
        for rows in bands(len(self.pixels)):
            yield rows, self.planes((rows, slice(None)))

    def sample(self) -> tuple[tuple[slice, slice], Planes]:
        """Return an even sample of the overview: which rows and columns it holds, and their density."""
        window = sample_window(self.pixels.shape)
        return window, self.planes(window)


def bands(height: int) -> Iterator[slice]:
    """Yield the rows of an image of `height` in bands, from top to bottom."""
    for top in range(0, height, BAND_ROWS):
        yield slice(top, top + BAND_ROWS)


def sample_window(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return every n-th row and column of an image of `shape` (H, W, ...), about `SAMPLE_PX` pixels."""
    step = slice(None, None, max(1, math.isqrt(shape[0] * shape[1] // SAMPLE_PX)))
    return step, step


def optical_density(pixels: np.ndarray, *, white: np.ndarray | float = 255.0) -> np.ndarray:
    """Return the Beer-Lambert optical density, float32 (..., 3) >= 0, of RGB uint8 `pixels` (..., 3).

    `white` is the intensity of clear glass, one number or one per channel.
    """
    levels = np.maximum(np.arange(256, dtype=np.float32), LOWEST_INTENSITY)[:, None]
    # One row per intensity, one column per channel: looking up is several times faster than a logarithm per pixel.
    table = np.maximum(-np.log10(levels / np.broadcast_to(np.asarray(white, dtype=np.float32), (3,))), 0.0)
    flat = np.ascontiguousarray(pixels).reshape(-1, 1, 3)
    return cv2.LUT(flat, table[None].astype(np.float32)).reshape(pixels.shape)


def intensity(density: np.ndarray, *, white: np.ndarray | float = 255.0) -> np.ndarray:
    """Return RGB uint8 (..., 3) of an optical density; the inverse of `optical_density`."""
    return np.clip(np.round(np.asarray(white, dtype=np.float32) * 10.0 ** (-density)), 0, 255).astype(np.uint8)


def glass_colour(pixels: np.ndarray) -> np.ndarray:
    """Estimate the colour of clear glass, float32 (3,), from RGB uint8 `pixels` (..., 3) of an overview.

    The median of the bright and nearly colourless pixels; where tissue leaves hardly any, the usual colour, since the
    brightest tissue would make pale tissue vanish.
    """
    pixels = np.ascontiguousarray(pixels).reshape(-1, 1, 3)
    if not len(pixels):
        return np.full(3, USUAL_GLASS, dtype=np.float32)
    lowest, highest = channel_range(pixels)
    glass = pixels[(lowest > DARKEST_GLASS) & (highest - lowest < LARGEST_GLASS_SPREAD)]
    if len(glass) < SMALLEST_GLASS_SHARE * len(pixels):
        return np.full(3, USUAL_GLASS, dtype=np.float32)
    return np.median(glass, axis=0).astype(np.float32)


def channel_range(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest channel, each (H, W), of `image` (H, W, 3)."""
    red, green, blue = cv2.split(image)
    return cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)


def channel_mean(image: np.ndarray) -> np.ndarray:
    """Return the mean (H, W) over the channels of float32 `image` (H, W, 3)."""
    return cv2.transform(image, np.full((1, 3), 1 / 3, dtype=np.float32))
