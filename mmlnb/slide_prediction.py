"""One slide through the models: tiles, captions and fusion, batch by batch."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data.errors import InputError
from data.focus import out_of_focus
from data.normalise import Stain
from data.prepared_slide import PreparedSlide
from data.read_tiles import TileBatch, TileRequest, read_tiles
from data.reader_pool import ReaderPool, TimeLimitPassed
from data.taxonomy import Taxonomy
from data.tiles import Tile
from mmlnb.caption_choice import Candidates
from mmlnb.chosen_captions import CaptionChoice, ChosenCaptions
from mmlnb.partial_results import PartialResults

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.predictor import Prediction, Predictor
    from vlm_finetune.captioner import Captioner

COLUMNS = ["x", "y", "size_px", "tissue", "error", "fused", "image", "gate", "text", "sharpness"]


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
    rows: np.ndarray
    """Row (N,) of each tile in the partial results."""
    places: np.ndarray
    """The same (N,), counted without the rows of tiles that could not be read."""
    unreadable: tuple[tuple[Tile, str], ...]
    blurred: tuple[Tile, ...]
    """Tiles that turned out to be out of focus; they have no say in the call."""
    chosen: ChosenCaptions | None = None
    """Which tiles were described and for which others they stand, where a choice was made."""

    @property
    def spoken(self) -> tuple[str | None, ...]:
        """The text that was fused with each tile: its own caption, one that it borrows, or None."""
        return self.texts if self.chosen is None else self.chosen.spoken(self.texts)

    def left_out(self) -> list[tuple[Tile, str]]:
        """Every tile of the grid that has no say in the call, with the reason."""
        return [
            *self.prepared.plan.rejected,
            *((tile, "blur") for tile in self.blurred),
            *((tile, "unreadable") for tile, _ in self.unreadable),
        ]


@dataclass(frozen=True)
class SlidePipeline:
    """The models of a bundle, and how they are fed."""

    predictor: "Predictor"
    captioner: "Captioner | None"
    taxonomy: Taxonomy
    batch_size: int
    notice: str
    """What every page must say about the models."""
    reference: Stain | None = None
    """Stain that slides are normalised to."""
    keep_features: bool = False
    """Whether the features of the image tower are kept for export."""
    choice: CaptionChoice | None = None
    """How the tiles to describe are chosen; None describes all, or none without a captioner."""

    def tile_request(self, prepared: PreparedSlide) -> TileRequest:
        """How the tiles of a slide are read for the models."""
        stain = None
        if prepared.stain is not None and self.reference is not None:
            stain = (prepared.stain, self.reference)
        return TileRequest(
            tile_px=prepared.plan.tile_px, upsampling=prepared.plan.upsampling, score_focus=True, stain=stain
        )

    def predict(
        self,
        prepared: PreparedSlide,
        partial: PartialResults,
        *,
        pool: ReaderPool,
        deadline: float | None,
        progress: Callable[[int], Any],
    ) -> SlidePrediction:
        """Read, describe and classify every planned tile that `partial` does not have; `progress` is told how many.

        Raises:
            InputError: no tile could be used, the file damaged its reader, or `deadline` (of `time.monotonic`) passed.
        """
        slide, plan = prepared.slide, prepared.plan
        if not plan.tiles:
            reasons = ", ".join(f"{count} {reason}" for reason, count in plan.reasons().items())
            raise InputError(f"{slide.path}: no usable tile ({reasons}); check the slide, or lower --min-tissue")
        keep = self.keep_features or self.choice is not None

        def go_through(tiles: Sequence[Tile], rows: PartialResults, *, describe: bool, keep: bool) -> None:
            progress(len(rows))
            batches = read_tiles(
                slide,
                tiles[len(rows) :],
                self.tile_request(prepared),
                pool=pool,
                batch_size=self.batch_size,
                deadline=deadline,
            )
            for batch in batches:
                rows.add(self._rows(batch, describe=describe, keep_features=keep))
                progress(len(batch.tiles) + len(batch.unreadable))
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeLimitPassed(str(slide.path))

        go_through(plan.tiles, partial, describe=self.choice is None, keep=keep)
        prediction = _prediction(prepared, partial.table(COLUMNS))
        if self.choice is None:
            return prediction
        # The choice rests on these rows: without them, what follows would have to wait for them again.
        partial.write()
        read = len(partial) - len(prediction.unreadable)
        candidates = Candidates(
            features=partial.matrix("features", rows=read)[prediction.places],
            probabilities=prediction.image,
            tissue=np.array([tile.tissue for tile in prediction.tiles]),
        )
        order = self.choice.choose(candidates)
        # In the order of the file, as the first time.
        chosen = sorted(order.tolist(), key=lambda index: prediction.rows[index])
        described = partial.beside("described")
        go_through([prediction.tiles[index] for index in chosen], described, describe=True, keep=False)
        return self._put_together(prediction, candidates, order, described.table(COLUMNS))

    def planned(self, tiles: int) -> int:
        """How many tiles are read in all where the slide has so many, those that are read twice counted twice."""
        return tiles + (0 if self.choice is None else self.choice.budget.count(tiles))

    def _put_together(
        self, prediction: SlidePrediction, candidates: Candidates, order: np.ndarray, described: pa.Table
    ) -> SlidePrediction:
        """The image branch's prediction with what came of the tiles that were `described`, in their own order."""
        import torch

        assert self.choice is not None
        place = {(tile.x, tile.y): index for index, tile in enumerate(prediction.tiles)}
        fused, gate, texts = prediction.fused.copy(), prediction.gate.copy(), list(prediction.texts)
        # What could be read once and cannot now, or what the model has no words for, stays with the image alone.
        for row in described.select(["x", "y", "fused", "gate", "text"]).to_pylist():
            if row["text"] is not None:
                index = place[row["x"], row["y"]]
                fused[index], gate[index], texts[index] = row["fused"], row["gate"], row["text"]
        chosen = self.choice.share_out(candidates, [index for index in order.tolist() if texts[index] is not None])
        if (borrowed := np.flatnonzero(chosen.borrowed)).size:
            spoken = [texts[index] for index in chosen.source[borrowed]]
            found = self.predictor.predict_features(
                torch.from_numpy(candidates.features[borrowed].astype(np.float32)), spoken
            )
            fused[borrowed], gate[borrowed] = found.fused, found.gate
        return replace(prediction, fused=fused, gate=gate, texts=tuple(texts), chosen=chosen)

    def _rows(self, batch: TileBatch, *, describe: bool, keep_features: bool) -> pa.Table:
        """One row per tile of the batch, those that could not be read last."""
        described, features, found = self.classify(list(batch.pixels), describe=describe)
        lost = len(batch.unreadable)
        tiles = [*batch.tiles, *(tile for tile, _ in batch.unreadable)]
        columns = {
            "x": pa.array([tile.x for tile in tiles], pa.int64()),
            "y": pa.array([tile.y for tile in tiles], pa.int64()),
            "size_px": pa.array([tile.size_px for tile in tiles], pa.float64()),
            "tissue": pa.array([tile.tissue for tile in tiles], pa.float64()),
            "error": pa.array([*[None] * len(batch.tiles), *(reason for _, reason in batch.unreadable)], pa.string()),
            "fused": _vectors(found.fused, lost, pa.float32()),
            "image": _vectors(found.image, lost, pa.float32()),
            "gate": pa.array([*found.gate.tolist(), *[None] * lost], pa.float32()),
            "text": pa.array([*described, *[None] * lost], pa.string()),
            "sharpness": pa.array([*batch.sharpness.tolist(), *[None] * lost], pa.float32()),
        }
        if keep_features:
            columns["features"] = _vectors(features.numpy().astype(np.float16), lost, pa.float16())
        return pa.table(columns)

    def classify(
        self, pixels: list[np.ndarray], *, describe: bool = True
    ) -> tuple[list[str | None], "Tensor", "Prediction"]:
        """Captions (None unless `describe`), image features (N, D) and probabilities of N square RGB uint8 patches."""
        described: list[str | None] = list(self._describe(pixels)) if describe else [None] * len(pixels)
        features = self.predictor.encode_images(pixels)
        return described, features, self.predictor.predict_features(features, described)

    def _describe(self, pixels: list[np.ndarray]) -> Iterator[str | None]:
        if self.captioner is None:
            yield from [None] * len(pixels)
            return
        for caption in self.captioner.describe(pixels):
            yield None if caption.error else caption.text


def _vectors(values: np.ndarray, lost: int, kind: pa.DataType) -> pa.ListArray:
    """Rows of `values` (N, D) as lists, followed by `lost` rows without."""
    width = values.shape[1]
    offsets = [*range(0, len(values) * width + 1, width), *[len(values) * width] * lost]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values.reshape(-1), kind))


def _prediction(prepared: PreparedSlide, table: pa.Table) -> SlidePrediction:
    """Sort out what cannot be read and what is out of focus, and give the rest the order of its place on the slide."""
    slide = prepared.slide
    tiles = [
        Tile(x=x, y=y, size_px=size, tissue=tissue)
        for x, y, size, tissue in zip(
            *(table[name].to_pylist() for name in ("x", "y", "size_px", "tissue")), strict=True
        )
    ]
    errors, texts = table["error"].to_pylist(), table["text"].to_pylist()
    unreadable = [(tile, reason) for tile, reason in zip(tiles, errors, strict=True) if reason is not None]
    read = np.array([row for row, reason in enumerate(errors) if reason is None], dtype=int)
    if not len(read):
        raise InputError(f"{slide.path}: none of {len(tiles)} tiles can be read; replace the file")
    # Focus is judged against the slide's own tiles, so only once all have been seen.
    blurred = out_of_focus(table["sharpness"].to_numpy()[read])
    kept = read[~blurred]
    if not len(kept):
        raise InputError(f"{slide.path}: all {len(read)} tiles are out of focus; scan the slide again")
    kept = np.array(sorted(kept, key=lambda row: (tiles[row].y, tiles[row].x)))
    # Row of the flat values: rows that were not read have none.
    place = np.searchsorted(read, kept)
    return SlidePrediction(
        prepared=prepared,
        tiles=tuple(tiles[row] for row in kept),
        fused=_matrix(table["fused"], len(read))[place],
        image=_matrix(table["image"], len(read))[place],
        gate=table["gate"].to_numpy()[kept],
        texts=tuple(texts[row] for row in kept),
        rows=kept,
        places=place,
        unreadable=tuple(unreadable),
        blurred=tuple(tiles[row] for row in read[blurred]),
    )


def _matrix(column: pa.ChunkedArray, rows: int) -> np.ndarray:
    """The lists of `column` as a matrix (rows, D); empty lists are left out."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(rows, -1)
