"""Pieces of tissue on a slide, and the regions inside them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic.layout import GRID_UM
from data.synthetic.texture import smooth_noise

Plane = NDArray[np.float32]

_REGION_UM = 225.0


def draw_pieces(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Signed level (rows, columns) of three to five pieces of tissue covering 25 to 35 % of the glass.

    The level is positive inside; it falls by 1 over 15 µm across the edge.
    """
    while True:
        inside = _without_specks(_blobs(shape, rng))
        pieces = cv2.connectedComponents(inside)[0] - 1
        # Pieces that ran into each other are drawn again.
        if 3 <= pieces <= 5 and 0.25 <= inside.mean() <= 0.35:
            break
    outwards = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    inwards = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    return np.clip((inwards - outwards) * GRID_UM / 15, -3, 3).astype(np.float32)


def _blobs(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Irregular ellipses, 1 inside, that together cover a drawn share of the area."""
    height, width = shape
    rows, columns = np.indices(shape, dtype=np.float32)
    rho = np.full(shape, np.inf, dtype=np.float32)
    for centre_x, centre_y in _spread(int(rng.integers(3, 6)), rng):
        angle, aspect, size = rng.uniform(0, np.pi), rng.uniform(1.0, 1.8), rng.uniform(0.8, 1.2)
        x, y = columns / width - centre_x, rows / height - centre_y
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        rho = np.minimum(rho, np.hypot(along / aspect**0.5, across * aspect**0.5) / size)
    rho += smooth_noise(rng, shape, 0.09 * width) * 0.032 + smooth_noise(rng, shape, 40 / GRID_UM) * 0.005
    # Tissue keeps clear of the slide's border.
    border = np.minimum(np.minimum(columns, width - 1 - columns) / width, np.minimum(rows, height - 1 - rows) / height)
    rho += 1.2 * np.clip(0.13 - border, 0, None) + 9 * np.clip(0.02 - border, 0, None)
    return (rho < np.quantile(rho, rng.uniform(0.27, 0.34))).astype(np.uint8)


def _spread(count: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Places in the unit square, as far from each other as `count` allows."""
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(count) / count + rng.normal(scale=0.1, size=count)
    away = rng.uniform(0.26, 0.31, size=count)
    if count == 5:
        away[0], angle[1:] = 0.0, angle[1] + np.pi / 2 * np.arange(4)
        away[1:] = rng.uniform(0.33, 0.38, size=4)
    return [(0.5 + float(r * np.cos(a)), 0.5 + float(r * np.sin(a))) for a, r in zip(angle, away, strict=True)]


def _without_specks(inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop islands smaller than 1 % of the slide and close holes of that size."""
    for value in (1, 0):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((inside == value).astype(np.uint8), connectivity=4)
        for index in range(1, count):
            if stats[index, cv2.CC_STAT_AREA] < 0.01 * inside.size:
                inside[labels == index] = 1 - value
    return inside


def draw_regions(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int32]:
    """Index of the region of each grid cell: irregular regions about 225 µm wide."""
    step = _REGION_UM / GRID_UM
    rows, columns = (int(np.ceil(n / step)) + 2 for n in shape)
    seeds = np.stack(np.meshgrid(np.arange(columns) - 0.5, np.arange(rows) - 0.5), axis=-1).reshape(-1, 2) * step
    seeds += rng.uniform(-0.3, 0.3, size=seeds.shape) * step
    y, x = np.indices(shape, dtype=np.float32)
    x += smooth_noise(rng, shape, step / 3) * step * 0.10
    y += smooth_noise(rng, shape, step / 3) * step * 0.10
    nearest = np.zeros(shape, dtype=np.int32)
    best = np.full(shape, np.inf, dtype=np.float32)
    for index, (seed_x, seed_y) in enumerate(seeds):
        # A seed can be nearest only within two steps of it.
        window = tuple(
            slice(max(0, int(middle - 2 * step)), max(0, int(middle + 2 * step))) for middle in (seed_y, seed_x)
        )
        away = (x[window] - seed_x) ** 2 + (y[window] - seed_y) ** 2
        closer = away < best[window]
        best[window] = np.where(closer, away, best[window])
        nearest[window] = np.where(closer, index, nearest[window])
    return nearest
