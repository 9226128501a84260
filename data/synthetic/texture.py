"""Seamless textures of tissue, made once per resolution, and smooth random fields."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_PX = 640
"""Period of every texture."""

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Textures:
    """Seamless textures (TILE_PX, TILE_PX), repeated once to the right and downwards so that windows are slices."""

    matrix: Plane
    """Cloudy ground between cells; mean 1."""
    gaps: Plane
    """Net of clefts between cells, as fixation leaves them; 0..1, mostly 0."""
    fibrils: Plane
    """Feltwork of fine fibrils; 0..1."""
    granules: Plane
    """Fine granules; mean 0, deviation 1."""
    bundles: Plane
    """Wavy bundles of fibres, running to the right; mean 0, deviation 1."""
    slope: Plane
    """Slope dy/dx of the bundles."""
    noise: Plane
    """White noise (…, …, 3) of a sensor; deviation 1."""


@lru_cache(maxsize=4)
def textures(mpp: float) -> Textures:
    """Textures at `mpp` micrometres per pixel; the same in every process."""
    rng = np.random.default_rng(71)
    px = 1 / mpp
    matrix = 1 + 0.16 * _field(rng, sigma=(0.7 * px, 0.7 * px)) + 0.16 * _field(rng, sigma=(5 * px, 5 * px))
    cracks = np.abs(_field(rng, sigma=(2.6 * px, 2.6 * px))) + 0.35 * np.abs(_field(rng, sigma=(9 * px, 9 * px)))
    gaps = np.clip((0.42 - cracks) / 0.34, 0, 1)
    felt = np.full((TILE_PX, TILE_PX), -np.inf, dtype=np.float32)
    for turn in range(6):
        streaks = _field(rng, sigma=(0.22 * px, 4.5 * px))
        bend = _field(rng, sigma=(9 * px, 9 * px)) * 6 * px
        layer = _shift_down(streaks, bend)
        felt = np.maximum(felt, layer if turn % 2 == 0 else layer.T)
    felt = np.clip((felt - 0.2) / 2.6, 0, 1)
    granules = 0.75 * _field(rng, sigma=(0.5 * px, 0.5 * px)) + 0.66 * _field(rng, sigma=(2.5 * px, 2.5 * px))
    wave = _field(rng, sigma=(14 * px, 14 * px)) * 6.5 * px
    bundles = 0.8 * _field(rng, sigma=(1.1 * px, 16 * px)) + 0.6 * _field(rng, sigma=(0.4 * px, 9 * px))
    # A fibre of the straight texture at row r lies at row y where y + wave = r, hence dy/dx = -wave_x / (1 + wave_y).
    across, down = np.gradient(wave, axis=1), np.gradient(wave, axis=0)
    slope = -across / np.clip(1 + down, 0.3, None)
    return Textures(
        matrix=_repeat(matrix),
        gaps=_repeat(gaps),
        fibrils=_repeat(felt),
        granules=_repeat(granules),
        bundles=_repeat(_shift_down(bundles, wave)),
        slope=_repeat(slope),
        noise=_repeat(rng.standard_normal((TILE_PX, TILE_PX, 3), dtype=np.float32)),
    )


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], period: float) -> Plane:
    """Smooth random field of `shape` with deviation near 1 whose features are about `period` cells wide."""
    height, width = shape
    coarse = rng.standard_normal((int(height / period) + 4, int(width / period) + 4), dtype=np.float32)
    place = np.array([[1 / period, 0, 1 + rng.random()], [0, 1 / period, 1 + rng.random()]], dtype=np.float32)
    field = cv2.warpAffine(coarse, place, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.asarray(field, dtype=np.float32) * 1.35


def _field(rng: np.random.Generator, *, sigma: tuple[float, float]) -> Plane:
    """Periodic Gaussian noise with mean 0 and deviation 1, blurred by `sigma` (down, across) in pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX)))
    down = np.exp(-2 * (np.pi * sigma[0] * np.fft.fftfreq(TILE_PX)) ** 2)
    across = np.exp(-2 * (np.pi * sigma[1] * np.fft.rfftfreq(TILE_PX)) ** 2)
    field = np.fft.irfft2(spectrum * down[:, None] * across[None, :], s=(TILE_PX, TILE_PX))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _shift_down(tile: Plane, by: Plane) -> Plane:
    """Sample `tile` at rows moved `by` pixels, around the edge."""
    axis = np.arange(TILE_PX, dtype=np.float32)
    columns = np.broadcast_to(axis, tile.shape).copy()
    rows = np.mod(axis[:, None] + by, TILE_PX).astype(np.float32)
    moved = cv2.remap(np.concatenate([tile, tile[:1]]), columns, rows, cv2.INTER_LINEAR)
    return moved.astype(np.float32)


def _repeat(tile: NDArray[np.floating]) -> Plane:
    return np.tile(tile.astype(np.float32), (2, 2) + (1,) * (tile.ndim - 2))
