"""The export is valid GeoJSON with the objects that QuPath expects."""

import json

import numpy as np
from shapely.geometry import shape

from data.taxonomy import load_taxonomy
from data.tiles import Tile
from data.tissue import Outline
from mmlnb.geojson import slide_geojson

TAXONOMY = load_taxonomy()


def test_tiles_and_tissue_are_polygons_in_level_0_pixels() -> None:
    square = np.array([(0, 0), (1000, 0), (1000, 1000), (0, 1000)], dtype=float)
    text = slide_geojson(
        taxonomy=TAXONOMY,
        outlines=[Outline(exterior=square, holes=(square * 0.1 + 400,))],
        tiles=[Tile(x=100, y=200, size_px=224.5, tissue=0.75)],
        probabilities=np.array([[0.1, 0.7, 0.2]]),
        gates=np.array([0.4]),
        texts=['scant neuropil, "quoted" – <b>'],
    )
    tissue, tile = json.loads(text)["features"]
    assert shape(tissue["geometry"]).area == 1000**2 - 100**2
    assert shape(tile["geometry"]).bounds == (100, 200, 324.5, 424.5)
    assert all(shape(feature["geometry"]).is_valid for feature in (tissue, tile))
    properties = tile["properties"]
    assert properties["objectType"] == "tile"
    assert properties["classification"]["name"] == "PD"
    assert len(properties["classification"]["color"]) == 3
    assert properties["measurements"] == {"p UD": 0.1, "p PD": 0.7, "p D": 0.2, "gate": 0.4, "tissue": 0.75}
    assert properties["metadata"]["caption"] == 'scant neuropil, "quoted" – <b>'
