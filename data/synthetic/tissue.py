"""Tissue on glass by Beer–Lambert mixing: concentrations of pigments to optical density to colour."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.errors import InputError
from data.synthetic.amounts import Amounts, draw_amounts
from data.synthetic.layout import GRID_UM, Layout, Orientation, grid_shape, lay_out, weight
from data.synthetic.sprites import CALCIUM, EOSIN, HAEMATOXYLIN, RED, Sprite, Sprites, sprites
from data.synthetic.style import PatientStyle
from data.synthetic.texture import TILE_PX, Textures, smooth_noise, textures
from data.taxonomy import Taxonomy

_MARGIN_PX = 72
"""Border around a window into which stamps may reach; wider than half the largest stamp at 0.2 mpp."""
_BLOCK_PX = 448
_GLASS_SHARE = 0.12
"""Share of the patches that lie at the edge of the tissue."""

Plane = NDArray[np.float32]


def render_patch(
    findings: dict[str, str],
    *,
    taxonomy: Taxonomy,
    style: PatientStyle,
    size_px: int,
    mpp: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw a patch that shows `findings`.

    Args:
        findings: Finding name to value name; what is left out is not drawn.
        taxonomy: Gives each value its amounts.
        style: Stain and scanner of the patient.
        size_px: Width and height in pixels.
        mpp: Micrometres per pixel.
        rng: Source of every draw; the same state gives the same patch.

    Returns:
        RGB image (size_px, size_px, 3).

    Raises:
        InputError: a finding or value that the taxonomy lacks, or a resolution that cannot be drawn.
    """
    amounts = draw_amounts(findings, taxonomy, rng)
    return render_amounts(amounts, style=style, size_px=size_px, mpp=mpp, rng=rng)


def render_amounts(
    amounts: Amounts, *, style: PatientStyle, size_px: int, mpp: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a patch (size_px, size_px, 3) from amounts of primitives; see `render_patch`."""
    check_resolution(mpp)
    shape = grid_shape(size_px, size_px, mpp)
    layout = lay_out(
        width_px=size_px,
        height_px=size_px,
        mpp=mpp,
        regions=np.zeros(shape, dtype=np.int32),
        amounts=[amounts],
        glass=_patch_edge(shape, rng),
        rng=rng,
    )
    image = np.empty((size_px, size_px, 3), dtype=np.uint8)
    for y in range(0, size_px, _BLOCK_PX):
        for x in range(0, size_px, _BLOCK_PX):
            width, height = min(_BLOCK_PX, size_px - x), min(_BLOCK_PX, size_px - y)
            image[y : y + height, x : x + width] = render_window(
                layout, style, x=x, y=y, width=width, height=height, rng=rng
            )
    return image


def check_resolution(mpp: float) -> None:
    """Refuse a resolution at which cells cannot be drawn.

    Raises:
        InputError: `mpp` is outside 0.2 to 2.
    """
    if not 0.2 <= mpp <= 2:
        raise InputError(f"mpp {mpp}: synthetic tissue is drawn at 0.2 to 2 micrometres per pixel")


def _patch_edge(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Level of the tissue in a patch: all tissue, or now and then an edge with a little glass."""
    if rng.random() > _GLASS_SHARE:
        return np.full(shape, 2.0, dtype=np.float32)
    rows, columns = np.indices(shape, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (columns - shape[1] / 2) * np.cos(angle) + (rows - shape[0] / 2) * np.sin(angle)
    level = along / (15 / GRID_UM) + 0.5 * smooth_noise(rng, shape, 24 / GRID_UM)
    return (level - np.quantile(level, rng.uniform(0.04, 0.3))).astype(np.float32)


def render_window(
    layout: Layout,
    style: PatientStyle,
    *,
    x: int,
    y: int,
    width: int,
    height: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw one window of a scene as RGB (height, width, 3); neighbouring windows meet without a seam.

    `width` and `height` are at most 448. `rng` is for the sensor's noise alone.
    """
    # The scanner's blur reaches over the border, so a few pixels more are drawn.
    reach = 4
    canvas = concentrations(layout, x=x - reach, y=y - reach, width=width + 2 * reach, height=height + 2 * reach)
    optical_density = cv2.transform(canvas, np.ascontiguousarray(style.density.T))
    light = cv2.exp(optical_density * np.float32(-np.log(10)))
    light = cv2.GaussianBlur(light, (0, 0), max(style.blur_um / layout.mpp, 0.15))[reach:-reach, reach:-reach]
    return expose(
        style, x=x, y=y, width=width, height=height, mpp=layout.mpp, light=np.asarray(light, dtype=np.float32), rng=rng
    )


def expose(
    style: PatientStyle,
    *,
    x: int,
    y: int,
    width: int,
    height: int,
    mpp: float,
    light: Plane | float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """What the sensor sees, (height, width, 3), of the transmitted share of the light, (height, width, 3) or 1."""
    turn = 2 * np.pi * mpp / 600
    brightness = (
        1
        + style.illumination[0] * np.sin(turn * np.arange(x, x + width, dtype=np.float32))[None, :, None]
        + style.illumination[1] * np.sin(turn * np.arange(y, y + height, dtype=np.float32))[:, None, None]
    ).astype(np.float32)
    grain_x, grain_y = (int(v) for v in rng.integers(TILE_PX, size=2))
    grain = textures(mpp).noise[grain_y : grain_y + height, grain_x : grain_x + width]
    image = light * (255 * style.glass * brightness)
    image += style.noise * grain
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def concentrations(layout: Layout, *, x: int, y: int, width: int, height: int) -> Plane:
    """Concentrations (height, width, 4) of the pigments in a window of a scene."""
    left, top = x - _MARGIN_PX, y - _MARGIN_PX
    full_width, full_height = width + 2 * _MARGIN_PX, height + 2 * _MARGIN_PX
    canvas = np.zeros((full_height, full_width, 4), dtype=np.float32)
    inner = canvas[_MARGIN_PX : _MARGIN_PX + height, _MARGIN_PX : _MARGIN_PX + width]
    parts = _upsample(layout, x=x, y=y, width=width, height=height)
    texture = _Window(textures(layout.mpp), layout.orientation, x=x, y=y, width=width, height=height)
    _ground(inner, parts, texture)
    _rosette_cores(canvas, layout, texture, left=left, top=top)
    stamps = sprites(layout.mpp)
    for kind, variants in _variants(stamps).items():
        _stamp_all(canvas, layout, kind, variants, left=left, top=top)
    _calcium(inner, parts["calcium"], texture)
    if layout.glass.min() < 1:
        # The edge is frayed by the same granules that the tissue shows.
        cover = weight(parts["glass"] * 0.6 + 0.08 * texture.granules * (parts["glass"] < 1))
        inner *= cover[..., None]
    return inner


class _Window:
    """The textures under one window."""

    def __init__(self, source: Textures, orientation: Orientation, *, x: int, y: int, width: int, height: int) -> None:
        self._source, self._orientation = source, orientation
        # Floor modulo keeps the textures continuous to the left of and above the scene.
        start_x, start_y = (x + orientation.dx) % TILE_PX, (y + orientation.dy) % TILE_PX
        self._slice = (slice(start_y, start_y + height), slice(start_x, start_x + width))

    def _cut(self, tile: Plane) -> Plane:
        return self._orientation.lay(tile)[self._slice]

    @property
    def matrix(self) -> Plane:
        return self._cut(self._source.matrix)

    @property
    def gaps(self) -> Plane:
        return self._cut(self._source.gaps)

    @property
    def fibrils(self) -> Plane:
        return self._cut(self._source.fibrils)

    @property
    def granules(self) -> Plane:
        return self._cut(self._source.granules)

    @property
    def bundles(self) -> Plane:
        return self._cut(self._source.bundles)


def _upsample(layout: Layout, *, x: int, y: int, width: int, height: int) -> dict[str, Plane]:
    """Levels of the parts and of the tissue, in pixels of the window."""
    scale = layout.mpp / GRID_UM
    place = np.array([[scale, 0, (x + 0.5) * scale - 0.5], [0, scale, (y + 0.5) * scale - 0.5]], dtype=np.float64)
    names = [*layout.levels, "glass"]
    planes = [*layout.levels.values(), layout.glass]
    # Only the part of the grid under the window is read.
    rows = slice(max(0, int(y * scale) - 3), max(0, int((y + height) * scale) + 4))
    columns = slice(max(0, int(x * scale) - 3), max(0, int((x + width) * scale) + 4))
    place[0, 2] -= columns.start
    place[1, 2] -= rows.start
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return {
        name: np.asarray(
            cv2.warpAffine(plane[rows, columns], place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE),
            dtype=np.float32,
        )
        for name, plane in zip(names, planes, strict=True)
    }


def _ground(canvas: Plane, levels: dict[str, Plane], texture: _Window) -> None:
    """Fill the window with what lies between the cells."""
    blood = weight(levels["blood"])
    necrosis = weight(levels["necrosis"] + 0.04 * texture.granules) * (1 - blood)
    spindle = weight(levels["spindle"]) * (1 - blood) * (1 - necrosis)
    fibrils = weight(levels["fibrils"]) * (1 - blood) * (1 - necrosis) * (1 - spindle)
    plain = 1 - blood - necrosis - spindle - fibrils
    eosin = plain * (0.29 * texture.matrix) * (1 - 0.6 * texture.gaps)
    eosin += fibrils * (0.065 + 0.21 * texture.fibrils)
    if necrosis.any():
        eosin += necrosis * np.clip(0.43 + 0.12 * texture.granules, 0.05, None)
    if spindle.any():
        eosin += spindle * np.clip(0.34 + 0.09 * texture.bundles, 0.05, None)
    canvas[..., EOSIN] = eosin + 0.06 * blood
    canvas[..., HAEMATOXYLIN] = (
        plain * 0.10 * texture.matrix * (1 - 0.6 * texture.gaps)
        + fibrils * (0.025 + 0.06 * texture.fibrils)
        + necrosis * 0.01
    )
    canvas[..., RED] = blood * 0.10


def _rosette_cores(canvas: Plane, layout: Layout, texture: _Window, *, left: int, top: int) -> None:
    """A disc of tangled fibrils for each rosette that reaches the window."""
    height, width = canvas.shape[:2]
    for centre_x, centre_y, radius in layout.rosettes:
        x, y, reach = centre_x - left, centre_y - top, int(radius + 10 / layout.mpp)
        if not (reach <= x < width - reach and reach <= y < height - reach):
            continue
        square = canvas[y - reach : y + reach + 1, x - reach : x + reach + 1]
        axis = np.arange(-reach, reach + 1, dtype=np.float32)
        away = np.hypot(axis[:, None], axis[None, :])
        outer = np.clip((radius + 7 / layout.mpp - away) * layout.mpp / 2, 0, 1)[..., None]
        tile = layout.orientation.lay(textures(layout.mpp).fibrils)
        row, column = (centre_y + layout.orientation.dy) % TILE_PX, (centre_x + layout.orientation.dx) % TILE_PX
        felt = tile[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        inner = np.clip((radius - away) * layout.mpp / 2 + 0.5, 0, 1)
        core = np.zeros_like(square)
        core[..., EOSIN] = 0.08 + inner * (0.18 + 0.34 * felt)
        core[..., HAEMATOXYLIN] = 0.03 + 0.05 * felt
        square *= 1 - outer
        square += outer * core


def _variants(stamps: Sprites) -> dict[str, tuple[tuple[Sprite, ...], ...]]:
    """Sprites by kind and direction, in the order in which they are drawn."""
    return {
        "red_cells": (stamps.red_cells,),
        "ghosts": (stamps.ghosts,),
        "nuclei": (stamps.nuclei,),
        "spindle_nuclei": stamps.spindle_nuclei,
        "ring_nuclei": stamps.ring_nuclei,
        "large_cells": (stamps.large_cells,),
        "fragments": (stamps.fragments,),
    }


def _stamp_all(
    canvas: Plane, layout: Layout, kind: str, variants: tuple[tuple[Sprite, ...], ...], *, left: int, top: int
) -> None:
    """Stamp the cells of one kind that reach the window."""
    stamps = layout.stamps[kind]
    half = variants[0][0].concentration.shape[0] // 2 + 8
    height, width = canvas.shape[:2]
    x, y = stamps.x - left, stamps.y - top
    inside = (x >= half) & (x < width - half) & (y >= half) & (y < height - half)
    for index in np.flatnonzero(inside):
        direction = variants[stamps.turn[index]]
        sprite = direction[stamps.pick[index] % len(direction)]
        size = sprite.concentration.shape[0]
        row, column = int(y[index]) - size // 2, int(x[index]) - size // 2
        square = canvas[row : row + size, column : column + size]
        if sprite.cover is None:
            np.maximum(square, sprite.concentration, out=square)
        else:
            square *= 1 - sprite.cover
            square += sprite.concentration


def _calcium(canvas: Plane, level: Plane, texture: _Window) -> None:
    """Deep blue-purple granules and plaques, laminated from the rim inwards."""
    if level.max() < -0.4:
        return
    rough = level + 0.13 * texture.granules
    plaque = np.clip(rough * 12 + 0.5, 0, 1)
    laminae = 1 + 0.22 * np.sin(level * 30)
    canvas *= (1 - plaque)[..., None]
    canvas[..., CALCIUM] += plaque * np.clip(1.02 * laminae + 0.20 * texture.granules, 0.35, None)
    canvas[..., EOSIN] += plaque * 0.12
