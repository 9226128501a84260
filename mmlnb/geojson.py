"""Tiles and tissue of a slide as GeoJSON that QuPath opens (level-0 pixels)."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.taxonomy import Taxonomy
from data.tiles import Tile
from data.tissue import Outline
from mmlnb.palette import class_colours


def slide_geojson(
    *,
    taxonomy: Taxonomy,
    outlines: Sequence[Outline],
    tiles: Sequence[Tile],
    probabilities: np.ndarray,
    gates: np.ndarray,
    texts: Sequence[str | None],
    notice: str = "",
) -> str:
    """FeatureCollection: one annotation per piece of tissue, one tile object per patch.

    Tiles carry their class, the probabilities (tiles, classes) and gates (tiles,) as measurements, and the caption as
    metadata; `notice` stands at the head of the collection and in the metadata of the tissue. Object types and
    classification follow QuPath's GeoJSON (version 0.4 and later).
    """
    colours = class_colours(taxonomy)
    features = [
        _feature(
            [_ring(outline.exterior), *(_ring(hole) for hole in outline.holes)],
            objectType="annotation",
            classification={"name": "Tissue", "color": [128, 128, 128]},
            metadata={"notice": notice},
        )
        for outline in outlines
    ]
    for tile, probability, gate, text in zip(tiles, probabilities, gates, texts, strict=True):
        left, top, right, bottom = tile.x, tile.y, tile.x + tile.size_px, tile.y + tile.size_px
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)
        name = taxonomy.class_names[int(probability.argmax())]
        measurements = {f"p {c}": round(float(p), 4) for c, p in zip(taxonomy.class_names, probability, strict=True)}
        features.append(
            _feature(
                [_ring(corners)],
                objectType="tile",
                classification={"name": name, "color": list(colours[name])},
                measurements=measurements | {"gate": round(float(gate), 4), "tissue": round(tile.tissue, 4)},
                metadata={"caption": text or ""},
            )
        )
    return json.dumps({"type": "FeatureCollection", "notice": notice, "features": features}, ensure_ascii=False)


def _ring(points: np.ndarray) -> list[list[float]]:
    """Close the polygon (N, 2), as GeoJSON wants it."""
    closed = np.concatenate([points, points[:1]])
    return [[round(float(x), 2), round(float(y), 2)] for x, y in closed]


def _feature(rings: list[list[list[float]]], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": properties}
