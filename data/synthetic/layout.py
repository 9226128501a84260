"""Where everything lies: smooth maps of the tissue's parts, and the place of every cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic.amounts import Amounts
from data.synthetic.sprites import SPINDLE_TURNS
from data.synthetic.texture import TILE_PX, smooth_noise, textures

GRID_UM = 2.0
"""Cell of the maps in micrometres."""
EDGE = 5.0
"""Steepness with which a level becomes a weight: weight = clip(EDGE · level + 0.5, 0, 1)."""

PARTS = ("spindle", "fibrils", "necrosis", "blood", "calcium")
_PERIOD_UM = {"spindle": 44.0, "fibrils": 30.0, "necrosis": 46.0, "blood": 34.0, "calcium": 20.0}

_FULL_DENSITY = 210.0
"""Cells in (112 µm)² at density 1: round nuclei of 7 to 9 µm that touch."""
_PATCH_UM2 = 112.0**2
_NUCLEUS_SPACING_UM = 112.0 / np.sqrt(_FULL_DENSITY)

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Stamps:
    """Sprites of one kind and where they go."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    turn: NDArray[np.int32]
    """Direction index, 0 where the kind has none."""
    pick: NDArray[np.int32]
    """Large random number that chooses among the kind's variants."""


@dataclass(frozen=True)
class Orientation:
    """How the textures are laid: an offset and one of eight turns and mirrors, so that no two scenes share them."""

    dx: int
    dy: int
    transpose: bool
    flip_x: bool
    flip_y: bool

    def lay(self, tile: Plane) -> Plane:
        """`tile` (2 TILE_PX, 2 TILE_PX, …) turned and mirrored, as a view."""
        tile = tile.swapaxes(0, 1) if self.transpose else tile
        return tile[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def slope(self, slope: Plane) -> Plane:
        """Angle in radians of fibres whose slope before turning and mirroring is `slope`."""
        angle = np.arctan(slope)
        if self.transpose:
            angle = np.pi / 2 - angle
        return (-angle if self.flip_x != self.flip_y else angle).astype(np.float32)


@dataclass(frozen=True)
class Layout:
    """A scene of tissue, ready to be drawn window by window."""

    width_px: int
    height_px: int
    mpp: float
    levels: dict[str, Plane]
    """Signed level of each of PARTS on the grid, positive where it lies, in deviations of its noise."""
    glass: Plane
    """Signed level of the tissue on the grid, positive inside."""
    orientation: Orientation
    stamps: dict[str, Stamps] = field(default_factory=dict)
    rosettes: Sequence[tuple[int, int, float]] = ()
    """Centre x, y in pixels and radius of the core in pixels."""


def grid_shape(width_px: int, height_px: int, mpp: float) -> tuple[int, int]:
    """Rows and columns of the maps of a scene."""
    return int(np.ceil(height_px * mpp / GRID_UM)) + 1, int(np.ceil(width_px * mpp / GRID_UM)) + 1


def weight(level: Plane) -> Plane:
    """Weight 0..1 of a signed level."""
    return np.clip(EDGE * level + 0.5, 0, 1).astype(np.float32)


def lay_out(
    *,
    width_px: int,
    height_px: int,
    mpp: float,
    regions: NDArray[np.int32],
    amounts: Sequence[Amounts],
    glass: Plane,
    rng: np.random.Generator,
) -> Layout:
    """Place tissue of the given `amounts` in a scene.

    Args:
        width_px: Width of the scene in pixels of `mpp` micrometres.
        height_px: Height of the scene.
        mpp: Micrometres per pixel.
        regions: Index into `amounts` for each cell of the grid, of shape `grid_shape`.
        amounts: What each region holds; borders between regions are smooth.
        glass: Signed level of the tissue on the grid, positive inside.
        rng: Source of every draw.
    """
    orientation = Orientation(
        dx=int(rng.integers(TILE_PX)),
        dy=int(rng.integers(TILE_PX)),
        transpose=bool(rng.random() < 0.5),
        flip_x=bool(rng.random() < 0.5),
        flip_y=bool(rng.random() < 0.5),
    )
    tissue = glass > 0
    levels = _levels(regions, amounts, tissue, rng)
    layout = Layout(
        width_px=width_px, height_px=height_px, mpp=mpp, levels=levels, glass=glass, orientation=orientation
    )
    taken = np.zeros(regions.shape, dtype=np.uint8)
    rosettes, stamps = _place_special(layout, regions, amounts, tissue, taken, rng)
    layout = Layout(
        width_px=width_px,
        height_px=height_px,
        mpp=mpp,
        levels=levels,
        glass=glass,
        orientation=orientation,
        rosettes=rosettes,
        stamps=stamps,
    )
    stamps |= _strew(layout, _region_map(regions, amounts, "cells"), tissue & (taken == 0), rng)
    return layout


def _region_map(regions: NDArray[np.int32], amounts: Sequence[Amounts], primitive: str) -> Plane:
    values = np.array([amount.get(primitive, 0.0) for amount in amounts], dtype=np.float32)
    return _soften(values[regions]) if len(values) > 1 else values[regions]


def _soften(plane: Plane) -> Plane:
    """Blur the borders between regions over about 20 µm."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 10.0 / GRID_UM), dtype=np.float32)


def _levels(
    regions: NDArray[np.int32], amounts: Sequence[Amounts], tissue: NDArray[np.bool_], rng: np.random.Generator
) -> dict[str, Plane]:
    """Level of each part: noise minus the threshold that gives the part its share of the region.

    Blood, necrosis and calcium come first; spindle takes its share of what they leave, and fibrils of what that leaves.
    """
    order = np.argsort(regions, axis=None, kind="stable")
    bounds = np.searchsorted(regions.ravel()[order], np.arange(len(amounts) + 1))
    members = [order[bounds[i] : bounds[i + 1]] for i in range(len(amounts))]
    free = tissue.copy()
    levels = {}
    for part in ("calcium", "blood", "necrosis", "spindle", "fibrils"):
        noise = smooth_noise(rng, regions.shape, _PERIOD_UM[part] / GRID_UM)
        noise += 0.22 * smooth_noise(rng, regions.shape, _PERIOD_UM[part] / GRID_UM / 4)
        thresholds = np.full(len(amounts), 4.5, dtype=np.float32)
        # Calcium, blood and necrosis are shares of the tissue, the others of what these leave.
        base = tissue if part in ("calcium", "blood", "necrosis") else free
        for index, amount in enumerate(amounts):
            share = amount.get(part, 0.0)
            if share <= 0.03:
                continue
            inside = members[index]
            usable = noise.ravel()[inside[base.ravel()[inside]]]
            if part in ("blood", "necrosis") and len(usable):
                unused = noise.ravel()[inside[free.ravel()[inside]]]
                # What is already taken cannot be taken again, so the share is reached in the rest.
                share, usable = share * len(usable) / max(len(unused), 1), unused
            if len(usable):
                thresholds[index] = np.quantile(usable, 1 - min(share, 0.97))
        threshold = thresholds[regions]
        level = noise - (_soften(threshold) if len(amounts) > 1 else threshold)
        levels[part] = np.where(free, level, np.minimum(level, -0.1)).astype(np.float32)
        free &= levels[part] <= 0
    return levels


def _place_special(
    layout: Layout,
    regions: NDArray[np.int32],
    amounts: Sequence[Amounts],
    tissue: NDArray[np.bool_],
    taken: NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[list[tuple[int, int, float]], dict[str, Stamps]]:
    """Place rosettes, large cells and fragments, so that none lies on another; `taken` gets their discs."""
    viable = tissue & (layout.levels["necrosis"] <= 0) & (layout.levels["blood"] <= 0) & (layout.levels["calcium"] <= 0)
    rosettes: list[tuple[int, int, float]] = []
    places: dict[str, list[tuple[int, int]]] = {"large_cells": [], "fragments": []}
    for index, amount in enumerate(amounts):
        inside = np.flatnonzero((regions == index).ravel() & tissue.ravel()) if len(amounts) > 1 else None
        if inside is None:
            inside = np.flatnonzero(tissue)
        if not len(inside):
            continue
        area = len(inside) * GRID_UM**2 / _PATCH_UM2
        cells = amount.get("cells", 0.0) * _FULL_DENSITY
        # In very sparse or very dense tissue the fraction counts against ordinary tissue, or it could not be seen.
        counts = {
            "rosettes": amount.get("rosettes", 0.0) * area,
            "large_cells": amount.get("large_cells", 0.0) * np.clip(cells, 62, 140) * area,
            "fragments": amount.get("fragments", 0.0) * np.clip(cells, 90, 160) * area,
        }
        for kind, radius_um in (("rosettes", 17.5), ("large_cells", 11.0), ("fragments", 4.5)):
            wanted = int(counts[kind] + rng.random()) if len(amounts) > 1 else round(counts[kind])
            if len(amounts) == 1 and kind != "fragments" and counts[kind] > 0:
                wanted = max(wanted, 1)
            for x, y in _free_places(wanted, radius_um, inside, viable, taken, rng):
                centre = _pixel(x, y, layout, rng)
                if kind == "rosettes":
                    rosettes.append((*centre, float(rng.uniform(7.0, 9.0) / layout.mpp)))
                    _clear(layout.levels, (x, y), 16.0)
                else:
                    places[kind].append(centre)
                    if kind == "large_cells":
                        _clear(layout.levels, (x, y), 11.0)
    ring = [_ring(rosette, layout.mpp, rng) for rosette in rosettes]
    stamps = {kind: _stamps(np.array(xy, dtype=np.int32).reshape(-1, 2), rng) for kind, xy in places.items()}
    ring_places = np.concatenate([r[0] for r in ring]) if ring else np.zeros((0, 2), dtype=np.int32)
    ring_turns = np.concatenate([r[1] for r in ring]) if ring else np.zeros(0, dtype=np.int32)
    stamps["ring_nuclei"] = _stamps(ring_places, rng, ring_turns)
    return rosettes, stamps


def _free_places(
    wanted: int,
    radius_um: float,
    inside: NDArray[np.intp],
    viable: NDArray[np.bool_],
    taken: NDArray[np.uint8],
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Up to `wanted` grid places (x, y) whose discs touch no other; viable tissue is preferred."""
    height, width = taken.shape
    radius = max(1, round(radius_um / GRID_UM))
    margin = min(radius * 2 // 3, height // 4, width // 4)
    places: list[tuple[int, int]] = []
    tries = 0
    while len(places) < wanted and tries < 25 * wanted:
        tries += 1
        y, x = divmod(int(inside[rng.integers(len(inside))]), width)
        if not (margin <= x < width - margin and margin <= y < height - margin):
            continue
        disc = taken[max(0, y - radius) : y + radius + 1 : 2, max(0, x - radius) : x + radius + 1 : 2]
        if disc.any() or (not viable[y, x] and tries < 12 * wanted):
            continue
        cv2.circle(taken, (x, y), radius, 1, thickness=-1)
        places.append((x, y))
    return places


def _clear(levels: dict[str, Plane], place: tuple[int, int], radius_um: float) -> None:
    """Remove blood, necrosis and calcium around a grid place."""
    radius = round(radius_um / GRID_UM)
    x, y = place
    for part in ("blood", "necrosis", "calcium"):
        level = levels[part][max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        rows, columns = np.ogrid[: level.shape[0], : level.shape[1]]
        away = (rows - min(y, radius)) ** 2 + (columns - min(x, radius)) ** 2
        np.minimum(level, -0.3, out=level, where=away <= radius**2)


def _pixel(x: int, y: int, layout: Layout, rng: np.random.Generator) -> tuple[int, int]:
    step = GRID_UM / layout.mpp
    return int((x + rng.random()) * step), int((y + rng.random()) * step)


def _ring(
    rosette: tuple[int, int, float], mpp: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Places (n, 2) and directions of the nuclei around a rosette's core."""
    x, y, radius = rosette
    middle = radius + 3.6 / mpp
    count = int(2 * np.pi * middle / (6.8 / mpp))
    angle = np.arange(count) * 2 * np.pi / count + rng.uniform(0, 6.3) + rng.normal(scale=0.08, size=count)
    away = middle + rng.normal(scale=0.7 / mpp, size=count)
    places = np.stack([x + away * np.cos(angle), y + away * np.sin(angle)], axis=1)
    return places.astype(np.int32), np.round(angle / np.pi * 12).astype(np.int32) % 12


def _stamps(places: NDArray[np.int32], rng: np.random.Generator, turns: NDArray[np.int32] | None = None) -> Stamps:
    turn = np.zeros(len(places), dtype=np.int32) if turns is None else turns
    return Stamps(
        x=places[:, 0], y=places[:, 1], turn=turn, pick=rng.integers(1 << 30, size=len(places), dtype=np.int32)
    )


def _strew(layout: Layout, density: Plane, free: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, Stamps]:
    """Nuclei, ghosts, red cells and spindle nuclei on jittered lattices, thinned by the maps."""
    blood, calcium = weight(layout.levels["blood"]), weight(layout.levels["calcium"])
    necrosis = weight(layout.levels["necrosis"]) * (1 - blood)
    spindle = weight(layout.levels["spindle"])
    fibrils = weight(layout.levels["fibrils"]) * (1 - spindle)
    viable = (1 - blood) * (1 - necrosis) * (1 - calcium) * free
    # Fibrils push nuclei apart.
    nuclei = _lattice(layout, _NUCLEUS_SPACING_UM, density * viable * (1 - spindle) * (1 - 0.6 * fibrils), rng)
    ghosts = _lattice(layout, 11.0, 0.62 * necrosis * (1 - calcium) * free, rng)
    red = _lattice(layout, 6.1, (blood > 0.5) * (layout.glass > 0) * 0.96, rng)
    spindle_nuclei = _lattice(layout, 12.5, 0.62 * viable * (spindle > 0.5), rng)
    return {
        "nuclei": _stamps(nuclei, rng),
        "ghosts": _stamps(ghosts, rng),
        "red_cells": _stamps(red, rng),
        "spindle_nuclei": _stamps(spindle_nuclei, rng, _fibre_turns(layout, spindle_nuclei)),
    }


def _fibre_turns(layout: Layout, places: NDArray[np.int32]) -> NDArray[np.int32]:
    orientation = layout.orientation
    slope = orientation.lay(textures(layout.mpp).slope)
    angle = orientation.slope(
        slope[(places[:, 1] + orientation.dy) % TILE_PX, (places[:, 0] + orientation.dx) % TILE_PX]
    )
    return np.round(angle / np.pi * SPINDLE_TURNS).astype(np.int32) % SPINDLE_TURNS


def _lattice(layout: Layout, spacing_um: float, keep: NDArray, rng: np.random.Generator) -> NDArray[np.int32]:
    """Places (n, 2) on a jittered lattice, each kept with the probability that `keep` gives at its grid cell."""
    spacing = spacing_um / layout.mpp
    # Rows of a hexagonal lattice are closer than its columns by cos 30°; both are stretched to keep the density.
    across, down = spacing * 1.0746, spacing * 0.9306
    rows, columns = int(layout.height_px / down) + 6, int(layout.width_px / across) + 6
    row, column = np.indices((rows, columns))
    # Gentle waves and jitter keep the eye from finding the rows.
    wave = rng.uniform(0, 2 * np.pi, size=4)
    bent_row = row + 0.7 * np.sin(column / 3.1 + wave[0]) + 0.5 * np.sin(column / 1.9 + row / 4.3 + wave[1])
    bent_column = column + 0.7 * np.sin(row / 2.7 + wave[2]) + 0.5 * np.sin(row / 2.1 - column / 4.7 + wave[3])
    jitter = rng.uniform(-0.26, 0.26, size=(2, *row.shape))
    x = (bent_column + 0.5 * (row % 2) - 2 + jitter[0] + rng.random()) * across
    y = (bent_row - 2 + jitter[1] + rng.random()) * down
    step = GRID_UM / layout.mpp
    height, width = keep.shape
    grid_x = np.clip(x / step, 0, width - 1).astype(np.intp)
    grid_y = np.clip(y / step, 0, height - 1).astype(np.intp)
    kept = (rng.random(size=row.shape) < keep[grid_y, grid_x]) & (x >= -across) & (y >= -down)
    kept &= (x < layout.width_px + across) & (y < layout.height_px + down)
    return np.stack([x[kept], y[kept]], axis=1).astype(np.int32)
