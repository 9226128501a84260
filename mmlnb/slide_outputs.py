"""The files that are written for a called slide, and where they lie."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic, write_text
from data.patch_hdf5 import write_patches
from data.taxonomy import Taxonomy
from data.tiles import Tile
from mmlnb.geojson import slide_geojson
from mmlnb.partial_results import PartialResults
from mmlnb.slide_prediction import SlidePrediction

OUTPUTS = {
    "predictions": ("predictions", ".parquet"),
    "tiles": ("tiles", ".parquet"),
    "geojson": ("geojson", ".geojson"),
    "hdf5": ("hdf5", ".h5"),
    "page": ("slides", ".html"),
    "page data": ("slides", ".json"),
    "page table": ("slides", ".csv"),
}
"""Kind of output to its folder below the output folder, and the suffix that is appended to the slide's id."""


def output_path(out: Path, kind: str, slide_id: str) -> Path:
    """Where the output `kind` (a key of OUTPUTS) of a slide lies."""
    folder, suffix = OUTPUTS[kind]
    return out / folder / f"{slide_id}{suffix}"


def remove_outputs(out: Path, slide_id: str) -> None:
    """Remove what an earlier file of the same name, or an attempt that was cut off, left behind."""
    for kind in OUTPUTS:
        path = output_path(out, kind, slide_id)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            for temporary in path.parent.glob(f".{_literal(path.stem)}.*.tmp{path.suffix}"):
                temporary.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """`name` with the characters that a pattern would interpret made literal."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def write_tables(prediction: SlidePrediction, out: Path, *, taxonomy: Taxonomy, notice: str) -> None:
    """Write predictions (one row per tile used), all tiles with their reasons, and GeoJSON; each with the `notice`."""
    prepared = prediction.prepared
    slide_id = prepared.slide.slide_id
    _write(prediction_table(prediction, taxonomy), output_path(out, "predictions", slide_id), notice=notice)
    _write(_tiles(prediction), output_path(out, "tiles", slide_id), notice=notice)
    objects = slide_geojson(
        taxonomy=taxonomy,
        outlines=prepared.tissue.outlines(),
        tiles=prediction.tiles,
        probabilities=prediction.fused,
        gates=prediction.gate,
        texts=prediction.spoken,
        notice=notice,
    )
    write_text(output_path(out, "geojson", slide_id), objects)


def write_hdf5(prediction: SlidePrediction, partial: PartialResults, out: Path, *, encoder: str, notice: str) -> None:
    """Write coordinates and features (float16) of the tiles used, as TRIDENT and CLAM read them."""
    prepared = prediction.prepared
    slide, plan = prepared.slide, prepared.plan
    # The features leave the disk in the order in which they went there, so the coordinates follow that.
    order = np.argsort(prediction.rows)
    write_patches(
        output_path(out, "hdf5", slide.slide_id),
        slide_id=slide.slide_id,
        dimensions=slide.dimensions,
        level0_mpp=slide.mpp.value,
        target_mpp=plan.target_mpp,
        tile_px=plan.tile_px,
        size_px=prediction.tiles[0].size_px,
        coords=np.array([(prediction.tiles[index].x, prediction.tiles[index].y) for index in order]),
        features=_features(partial, prediction.rows[order]),
        encoder=encoder,
        level_downsamples=slide.header.downsamples,
        notice=notice,
    )


def _features(partial: PartialResults, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The features (n, D) of the sorted `rows`, part by part."""
    start = 0
    for column in partial.column("features"):
        chosen = rows[(rows >= start) & (rows < start + len(column))] - start
        start += len(column)
        if len(chosen):
            yield np.stack(column.take(pa.array(chosen)).to_pylist()).astype(np.float16)


def _write(table: pa.Table, path: Path, *, notice: str) -> None:
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"notice": notice}), temporary)


def prediction_table(prediction: SlidePrediction, taxonomy: Taxonomy) -> pa.Table:
    """One row per tile used: position, probabilities fused and image-only, gate, and the text that was fused.

    `captioned` says whether it is the tile's own caption; where tiles were chosen, also whose it is (see
    `ChosenCaptions.columns`).
    """
    slide_id = prediction.prepared.slide.slide_id
    columns: dict[str, Any] = {
        "patch_id": [f"{slide_id}@{tile.x},{tile.y}" for tile in prediction.tiles],
        **_places(prediction.tiles),
    }
    for prefix, probabilities in (("p", prediction.fused), ("image_p", prediction.image)):
        for index, name in enumerate(taxonomy.class_names):
            columns[f"{prefix}_{name}"] = probabilities[:, index].astype(np.float32)
    columns["gate"] = prediction.gate.astype(np.float32)
    columns["text"] = pa.array(prediction.spoken, type=pa.string())
    columns["captioned"] = [text is not None for text in prediction.texts]
    if prediction.chosen is not None:
        columns |= prediction.chosen.columns(columns["patch_id"])
    return pa.table(columns)


def _tiles(prediction: SlidePrediction) -> pa.Table:
    """One row per square of the grid: position, whether it was used, else why not."""
    errors = dict(prediction.unreadable)
    rows = [(tile, "used") for tile in prediction.tiles] + prediction.left_out()
    rows.sort(key=lambda row: (row[0].y, row[0].x))
    return pa.table(
        {
            **_places(tuple(tile for tile, _ in rows)),
            "reason": [reason for _, reason in rows],
            "error": pa.array([errors.get(tile) for tile, _ in rows], pa.string()),
        }
    )


def _places(tiles: tuple[Tile, ...]) -> dict[str, Any]:
    return {
        "x": [tile.x for tile in tiles],
        "y": [tile.y for tile in tiles],
        "size_px": [tile.size_px for tile in tiles],
        "tissue": np.array([tile.tissue for tile in tiles], dtype=np.float32),
    }
