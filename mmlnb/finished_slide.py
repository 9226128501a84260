"""A called slide read from the files that inference left, so that its page can be written again."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from data.errors import InputError
from data.prepared_slide import THUMBNAIL_PX, slide_thumbnail
from data.slide import ReadError, Slide, open_slide
from data.tiles import Tile
from data.tissue import Outline
from mmlnb.bundles import EMBEDDED, Bundle, load_bundle
from mmlnb.called_slide import CalledSlide
from mmlnb.chosen_captions import read_chosen
from mmlnb.hub_cache import HUB
from mmlnb.slide_outputs import output_path
from mmlnb.slide_record import SlideRecord

GLASS = 245


@dataclass(frozen=True)
class FinishedFolder:
    """An output folder of `mmlnb infer`, with what its pages need besides."""

    folder: Path
    slides: Path
    """Where the slides lay."""
    reader: str
    bundle: Bundle

    def read(self, record: SlideRecord) -> tuple[CalledSlide, Callable[[list[Tile]], dict[Tile, np.ndarray]]]:
        """Read the called slide of `record`; returns it, and what gives the pixels of some of its tiles.

        Where the slide itself has gone, its pictures are blank and the page says so.

        Raises:
            InputError: an output of the slide is missing or cannot be read.
        """
        try:
            patches = pd.read_parquet(output_path(self.folder, "predictions", record.slide))
            grid = pd.read_parquet(output_path(self.folder, "tiles", record.slide))
            objects = json.loads(output_path(self.folder, "geojson", record.slide).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder}: the outputs of {record.slide} cannot be read ({error})") from error
        names = self.bundle.taxonomy.class_names
        outlines = _outlines(objects)
        slide, remark = self._open(record)
        width, height = slide.dimensions if slide else _extent(grid)
        if slide:
            thumbnail = slide_thumbnail(slide, slide.overview())
        else:
            scale = THUMBNAIL_PX / max(width, height)
            thumbnail = np.full((max(1, round(height * scale)), max(1, round(width * scale)), 3), GLASS, np.uint8)
        left_out = grid[grid["reason"] != "used"]
        called = CalledSlide(
            record=record,
            width=width,
            thumbnail=thumbnail,
            outlines=outlines,
            tissue_mm2=self._tissue_mm2(record, outlines),
            tiles=_tiles(patches),
            fused=patches[[f"p_{name}" for name in names]].to_numpy(),
            image=patches[[f"image_p_{name}" for name in names]].to_numpy(),
            gate=patches["gate"].to_numpy(),
            texts=tuple(patches["text"].astype(object).where(patches["captioned"], None)),
            left_out=list(zip(_tiles(left_out), left_out["reason"], strict=True)),
            target_mpp=self.bundle.index.target_mpp,
            tile_px=self.bundle.index.tile_px,
            chosen=read_chosen(patches),
            remark=remark,
        )
        return called, lambda tiles: _pixels(slide, tiles, tile_px=self.bundle.index.tile_px)

    def _tissue_mm2(self, record: SlideRecord, outlines: list[Outline]) -> float:
        """Area as the page gave it before, or that of the outlines, which run through the centres of pixels."""
        path = output_path(self.folder, "page data", record.slide)
        if path.is_file():
            return float(json.loads(path.read_text(encoding="utf-8"))["tissue_mm2"])
        return _area_px(outlines) * float(record.mpp or 0) ** 2 / 1e6

    def _open(self, record: SlideRecord) -> tuple[Slide | None, str]:
        path = self.slides if self.slides.is_file() else self.slides / record.slide
        try:
            slide = open_slide(path, slide_id=record.slide, manifest_mpp=record.mpp, reader=self.reader)
        except InputError:
            return None, "The slide's file is no longer where it was, so that maps and patches come without pictures."
        return slide, "Pictures are in the colours of the file, not in the normalised ones." if record.stain else ""


def open_finished(folder: Path) -> FinishedFolder:
    """Find what the pages of `folder`, which `mmlnb infer` wrote, need besides.

    Raises:
        InputError: its config.yaml is missing, or the bundle it names has gone.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(f"{path}: missing; give a folder that `mmlnb infer` wrote")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    started_in = _working_folder(folder.resolve(), Path(settings["out"]))
    return FinishedFolder(
        folder=folder,
        slides=started_in / settings["slides"],
        reader=settings.get("reader", "auto"),
        bundle=_find_bundle(str(settings["bundle"]), started_in, beside=folder.parent / "bundle"),
    )


def _find_bundle(source: str, started_in: Path, *, beside: Path) -> Bundle:
    """The bundle that was used, or the one `beside` its outputs where a run folder was moved."""
    if source == EMBEDDED or source.startswith(HUB):
        return load_bundle(source)
    folder = started_in / source
    return load_bundle(folder if folder.is_dir() or not beside.is_dir() else beside)


def _working_folder(folder: Path, out: Path) -> Path:
    """Where inference was started, to which the paths in its settings are relative: `folder` was `out` from there."""
    if out.is_absolute() or folder.parts[-len(out.parts) :] != out.parts:
        return Path()
    return Path(*folder.parts[: -len(out.parts)])


def _tiles(rows: pd.DataFrame) -> tuple[Tile, ...]:
    columns = (rows[name].tolist() for name in ("x", "y", "size_px", "tissue"))
    return tuple(Tile(x=x, y=y, size_px=size, tissue=tissue) for x, y, size, tissue in zip(*columns, strict=True))


def _extent(grid: pd.DataFrame) -> tuple[int, int]:
    """Level-0 pixels that the squares of the grid reach to."""
    return int((grid["x"] + grid["size_px"]).max()), int((grid["y"] + grid["size_px"]).max())


def _outlines(objects: dict[str, Any]) -> list[Outline]:
    found = []
    for feature in objects["features"]:
        if feature["properties"]["objectType"] == "annotation":
            # GeoJSON repeats the first point at the end.
            exterior, *holes = (np.array(ring, dtype=float)[:-1] for ring in feature["geometry"]["coordinates"])
            found.append(Outline(exterior=exterior, holes=tuple(holes)))
    return found


def _area_px(outlines: list[Outline]) -> float:
    """Area of the pieces in level-0 pixels."""

    def area(ring: np.ndarray) -> float:
        return float(cv2.contourArea(ring.astype(np.float32)))

    return sum(area(piece.exterior) - sum(map(area, piece.holes)) for piece in outlines)


def _pixels(slide: Slide | None, tiles: list[Tile], *, tile_px: int) -> dict[Tile, np.ndarray]:
    found: dict[Tile, np.ndarray] = {}
    if slide is None:
        return found
    with slide:
        for tile in tiles:
            try:
                found[tile] = slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=tile_px)
            except ReadError:
                # The card says that there is no picture.
                continue
    return found
