"""Maps of a slide: tissue outline, class and gate, drawn over the overview."""

import cv2
import numpy as np

from data.taxonomy import Taxonomy
from mmlnb.palette import class_colours
from mmlnb.slide_prediction import SlidePrediction

WIDTH_PX = 900
_OUTLINE = (20, 20, 20)
_GATE_LOW, _GATE_HIGH = np.array([255, 255, 255]), np.array([88, 24, 120])


def slide_thumbnail(prediction: SlidePrediction) -> np.ndarray:
    """RGB uint8 of the slide, at most WIDTH_PX on its longer side, with the tissue outlined."""
    picture, scale = _base(prediction)
    for outline in prediction.prepared.tissue.outlines():
        rings = [np.round(ring / scale).astype(np.int32) for ring in (outline.exterior, *outline.holes)]
        cv2.polylines(picture, rings, isClosed=True, color=_OUTLINE, thickness=2, lineType=cv2.LINE_AA)
    return picture


def class_map(prediction: SlidePrediction, taxonomy: Taxonomy) -> np.ndarray:
    """Every tile in the colour of its class, stronger where the model is surer."""
    colours = np.array(list(class_colours(taxonomy).values()))[prediction.fused.argmax(axis=1)]
    certainty = _above_chance(prediction.fused.max(axis=1), classes=prediction.fused.shape[1])
    return _paint(prediction, colours, opacity=0.25 + 0.6 * certainty)


def gate_map(prediction: SlidePrediction) -> np.ndarray:
    """Every tile from white (gate 0: the image alone decides) to dark violet (gate 1: the text alone)."""
    gate = prediction.gate[:, None]
    return _paint(prediction, _GATE_LOW * (1 - gate) + _GATE_HIGH * gate, opacity=np.full(len(gate), 0.85))


def _above_chance(probability: np.ndarray, *, classes: int) -> np.ndarray:
    return (probability - 1 / classes) / (1 - 1 / classes)


def _base(prediction: SlidePrediction) -> tuple[np.ndarray, float]:
    """The overview at display size, and level-0 pixels per pixel of it."""
    overview = prediction.prepared.overview
    height, width = overview.pixels.shape[:2]
    shrink = min(1.0, WIDTH_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return cv2.resize(overview.pixels, size, interpolation=cv2.INTER_AREA), overview.scale * width / size[0]


def _paint(prediction: SlidePrediction, colours: np.ndarray, *, opacity: np.ndarray) -> np.ndarray:
    """Lay `colours` (tiles, 3) with `opacity` (tiles,) over the overview, one square per tile."""
    picture, scale = _base(prediction)
    for tile, colour, strength in zip(prediction.tiles, colours, opacity, strict=True):
        left, top = round(tile.x / scale), round(tile.y / scale)
        right, bottom = round((tile.x + tile.size_px) / scale), round((tile.y + tile.size_px) / scale)
        square = picture[top:bottom, left:right]
        square[:] = (square * (1 - strength) + colour * strength).astype(np.uint8)
    return picture
