"""One slide through the models: tissue, tiles, captions and fusion, batch by batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic
from data.errors import InputError
from data.focus import out_of_focus, sharpness
from data.read_tiles import read_tiles
from data.slide import Overview, Slide
from data.taxonomy import Taxonomy
from data.tiles import Tile, TilePlan, plan_tiles
from data.tissue import TissueMask, find_tissue

if TYPE_CHECKING:
    from fusion.predictor import Predictor
    from vlm_finetune.captioner import Captioner


@dataclass(frozen=True, eq=False)
class PreparedSlide:
    """A slide with its tissue found and its tiles planned."""

    slide: Slide
    overview: Overview
    tissue: TissueMask
    plan: TilePlan


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """What the models say about the N usable tiles of a slide."""

    prepared: PreparedSlide
    tiles: tuple[Tile, ...]
    fused: np.ndarray
    """Probability per class, image and text together (N, classes)."""
    image: np.ndarray
    """Probability per class from the image alone (N, classes)."""
    gate: np.ndarray
    """Trust in the text (N,), 0–1; 0 where there is none."""
    texts: tuple[str | None, ...]
    """Caption of each tile; None where it was not described or the model failed to."""
    unreadable: tuple[tuple[Tile, str], ...]
    blurred: tuple[Tile, ...]
    """Tiles that turned out to be out of focus; they have no say in the call."""

    def rejected(self) -> dict[str, int]:
        """Count of the tiles left out, by reason."""
        blur = {"blur": len(self.blurred)} if self.blurred else {}
        return self.prepared.plan.reasons() | blur


@dataclass(frozen=True)
class SlidePipeline:
    """The models of a bundle and the patches they were trained on."""

    predictor: "Predictor"
    captioner: "Captioner | None"
    taxonomy: Taxonomy
    target_mpp: float
    tile_px: int
    batch_size: int
    workers: int
    notice: str
    """What every page must say about the models."""

    def prepare(self, slide: Slide, *, min_tissue: float) -> PreparedSlide:
        """Find tissue and plan tiles.

        Raises:
            InputError: the slide is smaller than a tile.
        """
        slide.check_size(target_mpp=self.target_mpp, tile_px=self.tile_px)
        overview = slide.overview()
        tissue = find_tissue(overview)
        plan = plan_tiles(slide, tissue, target_mpp=self.target_mpp, tile_px=self.tile_px, min_tissue=min_tissue)
        return PreparedSlide(slide=slide, overview=overview, tissue=tissue, plan=plan)

    def predict(self, prepared: PreparedSlide, *, progress: Callable[[int], Any]) -> SlidePrediction:
        """Read, describe and classify every planned tile; `progress` is told how many were done each time.

        Only results are kept, so memory does not grow with the pixels of the slide.

        Raises:
            InputError: no tile could be used.
        """
        slide, plan = prepared.slide, prepared.plan
        if not plan.tiles:
            reasons = ", ".join(f"{count} {reason}" for reason, count in plan.reasons().items())
            raise InputError(f"{slide.path}: no usable tile ({reasons}); check the slide, or lower --min-tissue")
        tiles: list[Tile] = []
        unreadable: list[tuple[Tile, str]] = []
        texts: list[str | None] = []
        fused, image, gate, sharp = [], [], [], []
        for batch in read_tiles(
            slide, plan.tiles, tile_px=plan.tile_px, batch_size=self.batch_size, workers=self.workers
        ):
            unreadable += batch.unreadable
            if batch.tiles:
                described = list(self._describe(batch.pixels))
                prediction = self.predictor.predict(list(batch.pixels), described)
                tiles += batch.tiles
                texts += described
                fused.append(prediction.fused)
                image.append(prediction.image)
                gate.append(prediction.gate)
                sharp.append(sharpness(_at_own_resolution(batch.pixels, plan)))
            progress(len(batch.tiles) + len(batch.unreadable))
        if not tiles:
            raise InputError(f"{slide.path}: none of {len(plan.tiles)} tiles can be read; replace the file")
        # Focus is judged against the slide's own tiles, so only once all have been seen.
        blurred = out_of_focus(np.concatenate(sharp))
        kept = np.flatnonzero(~blurred)
        if not len(kept):
            raise InputError(f"{slide.path}: all {len(tiles)} tiles are out of focus; scan the slide again")
        return SlidePrediction(
            prepared=prepared,
            tiles=tuple(tiles[index] for index in kept),
            fused=np.concatenate(fused)[kept],
            image=np.concatenate(image)[kept],
            gate=np.concatenate(gate)[kept],
            texts=tuple(texts[index] for index in kept),
            unreadable=tuple(unreadable),
            blurred=tuple(tiles[index] for index in np.flatnonzero(blurred)),
        )

    def _describe(self, pixels: np.ndarray) -> Iterator[str | None]:
        if self.captioner is None:
            yield from [None] * len(pixels)
            return
        for caption in self.captioner.describe(list(pixels)):
            yield None if caption.error else caption.text


def _at_own_resolution(pixels: np.ndarray, plan: TilePlan) -> np.ndarray:
    """Tiles (N, H, W, 3) without the pixels that were invented where the file is coarser than the target."""
    side = round(plan.tile_px / plan.upsampling)
    if side == plan.tile_px:
        return pixels
    return np.stack([cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA) for tile in pixels])


def write_predictions(prediction: SlidePrediction, path: Path, *, taxonomy: Taxonomy) -> None:
    """Write one row per tile as Parquet: position, probabilities fused and image-only, gate, caption."""
    tiles, slide_id = prediction.tiles, prediction.prepared.slide.slide_id
    columns: dict[str, Any] = {
        "patch_id": [f"{slide_id}@{tile.x},{tile.y}" for tile in tiles],
        "x": [tile.x for tile in tiles],
        "y": [tile.y for tile in tiles],
        "size_px": [tile.size_px for tile in tiles],
        "tissue": np.array([tile.tissue for tile in tiles], dtype=np.float32),
    }
    for prefix, probabilities in (("p", prediction.fused), ("image_p", prediction.image)):
        for index, name in enumerate(taxonomy.class_names):
            columns[f"{prefix}_{name}"] = probabilities[:, index].astype(np.float32)
    columns["gate"] = prediction.gate.astype(np.float32)
    columns["text"] = pa.array(prediction.texts, type=pa.string())
    columns["captioned"] = [text is not None for text in prediction.texts]
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
