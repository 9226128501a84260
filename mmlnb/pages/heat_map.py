"""Maps of a slide: tissue outline, class and gate, drawn over its thumbnail."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.taxonomy import Taxonomy
from data.tiles import Tile
from mmlnb.called_slide import CalledSlide
from mmlnb.palette import REASON_COLOURS, class_colours

_OUTLINE = (20, 20, 20)
_GATE_LOW, _GATE_HIGH = np.array([255, 255, 255]), np.array([88, 24, 120])


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Pictures of one slide, RGB uint8 of the size of the slide's thumbnail."""

    outline: np.ndarray
    """The slide with its tissue outlined."""
    classes: np.ndarray
    """Every tile in the colour of its class, stronger where the model is surer."""
    gates: np.ndarray
    """Every tile from white (gate 0: the image alone decides) to dark violet (gate 1: the text alone)."""
    reasons: np.ndarray
    """Every tile that was left out for more than being glass, in the colour of the reason."""


def draw_maps(slide: CalledSlide, taxonomy: Taxonomy) -> SlideMaps:
    """Draw the maps of a slide."""
    thumbnail = slide.thumbnail
    scale = slide.width / thumbnail.shape[1]
    outline = thumbnail.copy()
    for piece in slide.outlines:
        rings = [np.round(ring / scale).astype(np.int32) for ring in (piece.exterior, *piece.holes)]
        cv2.polylines(outline, rings, isClosed=True, color=_OUTLINE, thickness=2, lineType=cv2.LINE_AA)
    colours = np.array(list(class_colours(taxonomy).values()))[slide.fused.argmax(axis=1)]
    chance = 1 / slide.fused.shape[1]
    certainty = (slide.fused.max(axis=1) - chance) / (1 - chance)
    gate = slide.gate[:, None]
    left_out = [(tile, reason) for tile, reason in slide.left_out if reason in REASON_COLOURS]
    return SlideMaps(
        outline=outline,
        classes=_paint(thumbnail, scale, slide.tiles, colours, opacity=0.25 + 0.6 * certainty),
        gates=_paint(
            thumbnail,
            scale,
            slide.tiles,
            _GATE_LOW * (1 - gate) + _GATE_HIGH * gate,
            opacity=np.full(len(gate), 0.85),
        ),
        reasons=_paint(
            thumbnail,
            scale,
            [tile for tile, _ in left_out],
            np.array([REASON_COLOURS[reason] for _, reason in left_out]),
            opacity=np.full(len(left_out), 0.75),
        ),
    )


def _paint(
    thumbnail: np.ndarray, scale: float, tiles: Sequence[Tile], colours: np.ndarray, *, opacity: np.ndarray
) -> np.ndarray:
    """Lay `colours` (tiles, 3) with `opacity` (tiles,) over a copy of the thumbnail, one square per tile."""
    picture = thumbnail.copy()
    for tile, colour, strength in zip(tiles, colours, opacity, strict=True):
        left, top = round(tile.x / scale), round(tile.y / scale)
        right, bottom = round((tile.x + tile.size_px) / scale), round((tile.y + tile.size_px) / scale)
        square = picture[top:bottom, left:right]
        square[:] = (square * (1 - strength) + colour * strength).astype(np.uint8)
    return picture
