"""Tiles of a slide at an exact resolution: which to read, and why the others are not."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from data.slide import Slide
from data.tissue import TissueMask

Reason = Literal["background", "pen", "edge", "fold"]
# Share of a tile that may be spoilt before it is left out.
LARGEST_PEN_SHARE = 0.1
LARGEST_EDGE_SHARE = 0.1
LARGEST_FOLD_SHARE = 0.25
# Tiles per side of a block; its decoded pixels stay in the cache of a reader.
BLOCK = 8


@dataclass(frozen=True)
class Tile:
    """One square of a slide."""

    x: int
    """Left edge in level-0 pixels."""
    y: int
    """Top edge in level-0 pixels."""
    size_px: float
    """Side in level-0 pixels; not rounded, so that the target resolution is met exactly."""
    tissue: float = 1.0
    """Share of the square that is tissue, 0-1."""


@dataclass(frozen=True)
class TilePlan:
    """The grid of one slide: the tiles in blocks of neighbours, the rejected ones row by row."""

    tiles: tuple[Tile, ...]
    rejected: tuple[tuple[Tile, Reason], ...]
    target_mpp: float
    tile_px: int
    columns: int
    rows: int
    upsampling: float
    """How many times finer the target is than the file; 1 where the file is finer, above it pixels are invented."""

    def reasons(self) -> dict[str, int]:
        """Count the rejected tiles by reason."""
        return dict(Counter(reason for _, reason in self.rejected))


def plan_tiles(
    slide: Slide, tissue: TissueMask, *, target_mpp: float, tile_px: int, min_tissue: float = 0.5
) -> TilePlan:
    """Lay a grid of non-overlapping tiles of `tile_px` at `target_mpp` µm/px over the slide.

    Each tile begins at its exact position rounded to a level-0 pixel, so rounding never adds up. The last column and
    row may reach past the slide, where there is no tissue. Tiles with less than `min_tissue` tissue are rejected as
    "background" ("pen" or "edge" where ink or the edge of the glass covers what is missing), those with a tenth of ink
    as "pen", with a tenth of edge as "edge", with a quarter of fold as "fold". Where the file is damaged tissue is
    assumed, so that reading reports the tile. Raises InputError where the slide is smaller than one tile.
    """
    slide.check_size(target_mpp=target_mpp, tile_px=tile_px)
    step = slide.size_px(target_mpp=target_mpp, tile_px=tile_px)
    columns, rows = (max(1, math.ceil(length / step - 1e-6)) for length in slide.dimensions)
    share = {
        name: _share_of(mask, scale=tissue.scale, step=step, columns=columns, rows=rows)
        for name, mask in (
            ("tissue", tissue.tissue | tissue.unreadable),
            ("pen", tissue.pen),
            ("edge", tissue.edge),
            ("fold", tissue.fold),
        )
    }
    tiles: list[Tile] = []
    rejected: list[tuple[Tile, Reason]] = []
    for row in range(rows):
        for column in range(columns):
            shares = {name: float(grid[row, column]) for name, grid in share.items()}
            tile = Tile(x=round(column * step), y=round(row * step), size_px=step, tissue=shares["tissue"])
            reason = _reason(shares, min_tissue=min_tissue)
            if reason is None:
                tiles.append(tile)
            else:
                rejected.append((tile, reason))
    # Neighbours share tiles of the file, so they are read soon after one another, block by block.
    tiles.sort(key=lambda tile: (round(tile.y / step) // BLOCK, round(tile.x / step) // BLOCK, tile.y, tile.x))
    return TilePlan(
        tiles=tuple(tiles),
        rejected=tuple(rejected),
        target_mpp=target_mpp,
        tile_px=tile_px,
        columns=columns,
        rows=rows,
        upsampling=max(1.0, slide.mpp.value / target_mpp),
    )


def _reason(shares: dict[str, float], *, min_tissue: float) -> Reason | None:
    """Return why a square with these shares of tissue, pen, edge and fold is left out, or None where it is not."""
    pen, edge = shares["pen"], shares["edge"]
    if shares["tissue"] < min_tissue:
        if shares["tissue"] + pen + edge < min_tissue:
            return "background"
        return "pen" if pen >= edge else "edge"
    if pen > LARGEST_PEN_SHARE:
        return "pen"
    if edge > LARGEST_EDGE_SHARE:
        return "edge"
    return "fold" if shares["fold"] > LARGEST_FOLD_SHARE else None


def _share_of(mask: np.ndarray, *, scale: float, step: float, columns: int, rows: int) -> np.ndarray:
    """Return float (rows, columns): the exact share of each square of side `step` that is True in `mask` (H, W)."""
    total = cv2.integral(mask.view(np.uint8))
    # The integral image is linear inside a pixel, so interpolating it gives exact areas.
    total = _interpolate(total, np.arange(rows + 1) * (step / scale))
    total = _interpolate(total.T, np.arange(columns + 1) * (step / scale)).T
    return np.diff(np.diff(total, axis=0), axis=1) / (step / scale) ** 2


def _interpolate(lines: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return `lines` (N, M) at fractional row `positions` (K,), held at the last row, as (K, M)."""
    positions = np.minimum(positions, len(lines) - 1)
    below = np.minimum(positions.astype(int), len(lines) - 2)
    weight = (positions - below)[:, None]
    return lines[below] * (1 - weight) + lines[below + 1] * weight
