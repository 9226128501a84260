"""Maps of a slide: tissue outline, class and gate, drawn over its thumbnail."""

from dataclasses import dataclass

import cv2
import numpy as np

from data.taxonomy import Taxonomy
from mmlnb.palette import class_colours
from mmlnb.slide_prediction import SlidePrediction

WIDTH_PX = 900
_OUTLINE = (20, 20, 20)
_GATE_LOW, _GATE_HIGH = np.array([255, 255, 255]), np.array([88, 24, 120])


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Pictures of one slide, RGB uint8 of equal size, at most WIDTH_PX on the longer side."""

    outline: np.ndarray
    """The slide with its tissue outlined."""
    classes: np.ndarray
    """Every tile in the colour of its class, stronger where the model is surer."""
    gates: np.ndarray
    """Every tile from white (gate 0: the image alone decides) to dark violet (gate 1: the text alone)."""


def draw_maps(prediction: SlidePrediction, taxonomy: Taxonomy) -> SlideMaps:
    """Draw the maps of a slide."""
    slide = prediction.prepared.slide
    thumbnail = slide.thumbnail(WIDTH_PX)
    scale = slide.dimensions[0] / thumbnail.shape[1]
    outline = thumbnail.copy()
    for piece in prediction.prepared.tissue.outlines():
        rings = [np.round(ring / scale).astype(np.int32) for ring in (piece.exterior, *piece.holes)]
        cv2.polylines(outline, rings, isClosed=True, color=_OUTLINE, thickness=2, lineType=cv2.LINE_AA)
    colours = np.array(list(class_colours(taxonomy).values()))[prediction.fused.argmax(axis=1)]
    chance = 1 / prediction.fused.shape[1]
    certainty = (prediction.fused.max(axis=1) - chance) / (1 - chance)
    gate = prediction.gate[:, None]
    return SlideMaps(
        outline=outline,
        classes=_paint(thumbnail, scale, prediction, colours, opacity=0.25 + 0.6 * certainty),
        gates=_paint(
            thumbnail,
            scale,
            prediction,
            _GATE_LOW * (1 - gate) + _GATE_HIGH * gate,
            opacity=np.full(len(gate), 0.85),
        ),
    )


def _paint(
    thumbnail: np.ndarray, scale: float, prediction: SlidePrediction, colours: np.ndarray, *, opacity: np.ndarray
) -> np.ndarray:
    """Lay `colours` (tiles, 3) with `opacity` (tiles,) over a copy of the thumbnail, one square per tile."""
    picture = thumbnail.copy()
    for tile, colour, strength in zip(prediction.tiles, colours, opacity, strict=True):
        left, top = round(tile.x / scale), round(tile.y / scale)
        right, bottom = round((tile.x + tile.size_px) / scale), round((tile.y + tile.size_px) / scale)
        square = picture[top:bottom, left:right]
        square[:] = (square * (1 - strength) + colour * strength).astype(np.uint8)
    return picture
