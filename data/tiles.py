"""Tiles of a slide at an exact resolution: which to read, and why the others are not."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data.slide import Slide
from data.tissue import TissueMask

Reason = Literal["background", "pen", "fold"]
# Share of a tile that may be spoilt before it is left out.
LARGEST_PEN_SHARE = 0.1
LARGEST_FOLD_SHARE = 0.25


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
    """The grid of one slide, row by row."""

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
    "background" ("pen" where ink covers what is missing), those with a tenth of ink as "pen", with a quarter of fold
    as "fold". Where the file is damaged tissue is assumed, so that reading reports the tile. Raises InputError where
    the slide is smaller than one tile.
    """
    slide.check_size(target_mpp=target_mpp, tile_px=tile_px)
    step = slide.size_px(target_mpp=target_mpp, tile_px=tile_px)
    columns, rows = (max(1, math.ceil(length / step - 1e-6)) for length in slide.dimensions)
    share = {
        name: _share_of(mask, scale=tissue.scale, step=step, columns=columns, rows=rows)
        for name, mask in (
            ("tissue", tissue.tissue | tissue.unreadable),
            ("pen", tissue.pen),
            ("fold", tissue.fold),
        )
    }
    tiles: list[Tile] = []
    rejected: list[tuple[Tile, Reason]] = []
    for row in range(rows):
        for column in range(columns):
            covered, pen, fold = (float(share[name][row, column]) for name in ("tissue", "pen", "fold"))
            tile = Tile(x=round(column * step), y=round(row * step), size_px=step, tissue=covered)
            if covered < min_tissue:
                rejected.append((tile, "pen" if covered + pen >= min_tissue else "background"))
            elif pen > LARGEST_PEN_SHARE:
                rejected.append((tile, "pen"))
            elif fold > LARGEST_FOLD_SHARE:
                rejected.append((tile, "fold"))
            else:
                tiles.append(tile)
    return TilePlan(
        tiles=tuple(tiles),
        rejected=tuple(rejected),
        target_mpp=target_mpp,
        tile_px=tile_px,
        columns=columns,
        rows=rows,
        upsampling=max(1.0, slide.mpp.value / target_mpp),
    )


def _share_of(mask: np.ndarray, *, scale: float, step: float, columns: int, rows: int) -> np.ndarray:
    """Return float (rows, columns): the exact share of each square of side `step` that is True in `mask` (H, W)."""
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
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
