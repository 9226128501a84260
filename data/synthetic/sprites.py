"""Stamps of cells and nuclei: concentrations of the four pigments on small squares, made once per resolution."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

HAEMATOXYLIN, EOSIN, RED, CALCIUM = range(4)
SPINDLE_TURNS = 24
"""Directions in which spindle nuclei are drawn, over half a turn."""

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Sprite:
    """Concentrations (K, K, 4), and how far they replace what lies beneath (K, K, 1): 0 adds nothing, 1 covers."""

    concentration: Plane
    cover: Plane | None = None
    """None where the darker of stamp and ground is kept, as for small nuclei."""


@dataclass(frozen=True)
class Sprites:
    """All stamps at one resolution."""

    nuclei: tuple[Sprite, ...]
    ring_nuclei: tuple[tuple[Sprite, ...], ...]
    """By direction in twelfths of half a turn: nuclei of rosettes, longer towards the middle."""
    spindle_nuclei: tuple[tuple[Sprite, ...], ...]
    """By direction in parts (SPINDLE_TURNS) of half a turn."""
    ghosts: tuple[Sprite, ...]
    large_cells: tuple[Sprite, ...]
    fragments: tuple[Sprite, ...]
    red_cells: tuple[Sprite, ...]


@lru_cache(maxsize=4)
def sprites(mpp: float) -> Sprites:
    """Stamps at `mpp` micrometres per pixel; the same in every process."""
    rng = np.random.default_rng(53)
    return Sprites(
        nuclei=tuple(_round_nucleus(rng, mpp) for _ in range(96)),
        ring_nuclei=tuple(
            tuple(_round_nucleus(rng, mpp, stretch=1.22, angle=np.pi * turn / 12) for _ in range(3))
            for turn in range(12)
        ),
        spindle_nuclei=tuple(
            tuple(_spindle_nucleus(rng, mpp, angle=np.pi * turn / SPINDLE_TURNS) for _ in range(4))
            for turn in range(SPINDLE_TURNS)
        ),
        ghosts=tuple(_ghost(rng, mpp) for _ in range(16)),
        large_cells=tuple(_large_cell(rng, mpp) for _ in range(32)),
        fragments=tuple(_fragment(rng, mpp) for _ in range(40)),
        red_cells=tuple(_red_cell(rng, mpp) for _ in range(24)),
    )


@dataclass(frozen=True)
class _Square:
    """Coordinates in micrometres from the middle of a square of K x K pixels."""

    x: Plane
    y: Plane
    mpp: float

    @classmethod
    def around(cls, radius_um: float, mpp: float) -> "_Square":
        half = int(np.ceil(radius_um / mpp)) + 1
        axis = np.arange(-half, half + 1, dtype=np.float32) * mpp
        x, y = np.meshgrid(axis, axis)
        return cls(x=x, y=y, mpp=mpp)

    def inside(self, distance: Plane, edge_um: float = 0.5) -> Plane:
        """Soft membership (0..1) from a signed distance in micrometres, positive inside."""
        return np.clip(distance / edge_um + 0.5, 0, 1).astype(np.float32)

    def speckle(self, rng: np.random.Generator, sigma_um: float) -> Plane:
        """Blurred white noise with mean 0 and deviation 1."""
        noise = rng.standard_normal(self.x.shape, dtype=np.float32)
        sigma = sigma_um / self.mpp
        if sigma > 0.2:
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), dtype=np.float32)
        return noise / max(float(noise.std()), 1e-6)

    def outline(
        self,
        rng: np.random.Generator,
        *,
        radius_um: float,
        aspect: float = 1.0,
        angle: float = 0.0,
        ragged: float = 0.06,
        centre: tuple[float, float] = (0.0, 0.0),
    ) -> Plane:
        """Signed distance, about in micrometres, to an irregular ellipse; positive inside."""
        x, y = self.x - centre[0], self.y - centre[1]
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        rho = np.hypot(along / np.sqrt(aspect), across * np.sqrt(aspect))
        theta = np.arctan2(across, along)
        radius = np.full_like(rho, radius_um)
        for harmonic in (2, 3, 5):
            radius += radius_um * ragged * rng.normal() / harmonic**0.5 * np.cos(harmonic * theta + rng.uniform(0, 6.3))
        return (radius - rho).astype(np.float32)


def _planes(square: _Square, **pigments: NDArray[np.floating]) -> Plane:
    stack = np.zeros((*square.x.shape, 4), dtype=np.float32)
    for name, plane in pigments.items():
        stack[..., {"haematoxylin": HAEMATOXYLIN, "eosin": EOSIN, "red": RED}[name]] = plane
    return stack


def _round_nucleus(
    rng: np.random.Generator, mpp: float, *, stretch: float | None = None, angle: float | None = None
) -> Sprite:
    square = _Square.around(6.4, mpp)
    angle = rng.uniform(0, np.pi) if angle is None else angle
    aspect = rng.uniform(1.0, 1.4) if stretch is None else stretch**2
    distance = square.outline(rng, radius_um=rng.uniform(3.3, 4.4), aspect=aspect, angle=angle, ragged=0.08)
    nucleus = square.inside(distance)
    # Salt and pepper: evenly strewn small clumps on a lighter ground, under a thin membrane.
    clumps = np.clip(square.speckle(rng, 0.45) - 0.1, 0, 2.2)
    membrane = np.exp(-(((distance - 0.45) / 0.5) ** 2))
    chromatin = nucleus * (0.46 + 0.36 * clumps + 0.22 * membrane) * rng.uniform(0.78, 1.15)
    cytoplasm = square.inside(distance + rng.uniform(0.7, 1.5), 1.2) * (1 - 0.35 * nucleus)
    return Sprite(_planes(square, haematoxylin=chromatin + 0.05 * cytoplasm, eosin=0.34 * cytoplasm))


def _spindle_nucleus(rng: np.random.Generator, mpp: float, *, angle: float) -> Sprite:
    square = _Square.around(10.5, mpp)
    along = square.x * np.cos(angle) + square.y * np.sin(angle)
    across = square.y * np.cos(angle) - square.x * np.sin(angle)
    length, width = rng.uniform(6.5, 9.0), rng.uniform(1.25, 1.65)
    bent = across - rng.uniform(0.5, 1.0) * np.sin(along / length * rng.uniform(2.0, 3.6) + rng.uniform(0, 6.3))
    taper = np.sqrt(np.clip(1 - (along / length) ** 2, 0, 1))
    nucleus = square.inside(width * taper - np.abs(bent)) * (taper > 0)
    chromatin = nucleus * (0.72 + 0.12 * square.speckle(rng, 0.5)) * rng.uniform(0.85, 1.1)
    return Sprite(_planes(square, haematoxylin=chromatin, eosin=0.3 * nucleus))


def _ghost(rng: np.random.Generator, mpp: float) -> Sprite:
    square = _Square.around(6.0, mpp)
    distance = square.outline(rng, radius_um=rng.uniform(3.0, 4.2), angle=rng.uniform(0, 3.1), aspect=1.15)
    faded = square.inside(distance, 1.4) * rng.uniform(0.10, 0.20) * (1 + 0.25 * square.speckle(rng, 0.8))
    return Sprite(_planes(square, haematoxylin=np.clip(faded, 0, None)))


def _large_cell(rng: np.random.Generator, mpp: float) -> Sprite:
    nucleus_um = rng.uniform(6.0, 7.2)
    cell_um = nucleus_um * rng.uniform(1.75, 1.95)
    square = _Square.around(cell_um * 1.35, mpp)
    angle = rng.uniform(0, np.pi)
    cell = square.outline(rng, radius_um=cell_um, aspect=rng.uniform(1.05, 1.5), angle=angle, ragged=0.075)
    body = square.inside(cell, 0.9)
    aside = rng.uniform(0.15, 0.45) * (cell_um - nucleus_um)
    middle = (aside * np.cos(angle), aside * np.sin(angle))
    distance = square.outline(rng, radius_um=nucleus_um, aspect=1.08, angle=angle, ragged=0.03, centre=middle)
    nucleus = square.inside(distance)
    membrane = np.exp(-(((distance - 0.4) / 0.55) ** 2))
    strands = np.clip(square.speckle(rng, 0.6) - 0.6, 0, 1.5)
    spot = square.outline(
        rng,
        radius_um=rng.uniform(1.5, 1.9),
        ragged=0.04,
        centre=(middle[0] + rng.normal() * 0.9, middle[1] + rng.normal() * 0.9),
    )
    nucleolus = square.inside(spot)
    haematoxylin = nucleus * (0.22 + 0.36 * membrane + 0.16 * strands) * (1 - nucleolus) + 1.45 * nucleolus
    granular = np.clip(1 + 0.12 * square.speckle(rng, 0.6) + 0.12 * square.speckle(rng, 2.2), 0.4, 1.6)
    cytoplasm = body * (1 - nucleus)
    tint = rng.uniform(0.85, 1.1)
    haematoxylin = haematoxylin + cytoplasm * granular * 0.17 * tint
    eosin = cytoplasm * granular * 0.50 * tint + 0.20 * nucleus
    # A thin retraction cleft, here and there, sets the cell off from its surroundings.
    cleft = np.clip(0.35 + 0.5 * square.speckle(rng, 4.0), 0, 0.8)
    cover = np.maximum(body, square.inside(cell + 0.9, 0.9) * cleft)
    return Sprite(_planes(square, haematoxylin=haematoxylin, eosin=eosin), cover=cover[..., None])


def _fragment(rng: np.random.Generator, mpp: float) -> Sprite:
    square = _Square.around(6.6, mpp)
    dark = np.zeros_like(square.x)
    if rng.random() < 0.4:
        plate = square.outline(
            rng, radius_um=rng.uniform(2.7, 3.2), aspect=rng.uniform(1.6, 2.3), angle=rng.uniform(0, 3.1), ragged=0.16
        )
        dark = square.inside(plate)
    else:
        pieces = int(rng.integers(3, 6))
        turn = rng.uniform(0, 6.3)
        for piece in range(pieces):
            angle, away = turn + 6.28 * piece / pieces + rng.normal() * 0.3, rng.uniform(1.2, 2.6)
            clump = square.outline(
                rng,
                radius_um=rng.uniform(1.1, 2.0),
                ragged=0.12,
                centre=(away * np.cos(angle), away * np.sin(angle)),
            )
            dark = np.maximum(dark, square.inside(clump))
    halo = square.inside(square.outline(rng, radius_um=rng.uniform(4.9, 5.6), ragged=0.08), 1.2)
    cytoplasm = halo * (1 - dark)
    return Sprite(_planes(square, haematoxylin=1.95 * dark, eosin=0.3 * cytoplasm + 0.35 * dark), cover=halo[..., None])


def _red_cell(rng: np.random.Generator, mpp: float) -> Sprite:
    square = _Square.around(4.6, mpp)
    distance = square.outline(
        rng, radius_um=rng.uniform(3.0, 3.6), aspect=rng.uniform(1, 1.3), angle=rng.uniform(0, 3.1), ragged=0.05
    )
    disc = square.inside(distance)
    dimple = np.exp(-((np.clip(distance, 0, None) - 3.3) ** 2) / 2.6)
    return Sprite(_planes(square, red=disc * (0.78 - 0.22 * dimple) * rng.uniform(0.85, 1.12)))
