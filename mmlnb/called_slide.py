"""A called slide as its page shows it, whether the models have just left it or its files are read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.taxonomy import Taxonomy
from data.tiles import Tile
from data.tissue import Outline
from fusion.aggregate import SlideCall, aggregate
from fusion.intervals import Interval
from mmlnb.call_uncertainty import block_of, call_intervals
from mmlnb.chosen_captions import ChosenCaptions
from mmlnb.slide_prediction import SlidePrediction
from mmlnb.slide_record import SlideRecord


@dataclass(frozen=True, eq=False)
class CalledSlide:
    """One called slide with its N patches."""

    record: SlideRecord
    width: int
    """In level-0 pixels."""
    thumbnail: np.ndarray
    """RGB uint8 (H, W, 3) of the whole slide."""
    outlines: Sequence[Outline]
    """Pieces of tissue."""
    tissue_mm2: float
    tiles: tuple[Tile, ...]
    """The patches that were used."""
    fused: np.ndarray
    """Probability per class, image and text together (N, classes)."""
    image: np.ndarray
    """Probability per class from the image alone (N, classes)."""
    gate: np.ndarray
    """Trust in the text (N,), 0–1."""
    texts: tuple[str | None, ...]
    """Own caption of each patch; None where it was not described."""
    left_out: Sequence[tuple[Tile, str]]
    """Tiles without a say in the call, with the reason."""
    target_mpp: float
    tile_px: int
    chosen: ChosenCaptions | None = None
    """Which patches were described and for which others they stand, where a choice was made."""
    remark: str = ""
    """What the page must say about the pictures."""

    @cached_property
    def tissue(self) -> np.ndarray:
        """Share of tissue in each patch (N,)."""
        return np.array([tile.tissue for tile in self.tiles])

    @cached_property
    def call(self) -> SlideCall:
        """The patches brought together, image and text."""
        return aggregate(self.fused, self.tissue)

    @cached_property
    def blocks(self) -> np.ndarray:
        """Number (N,) of the block of neighbouring patches that each lies in."""
        return block_of(np.array([(tile.x, tile.y) for tile in self.tiles]), size_px=self.tiles[0].size_px)

    @cached_property
    def intervals(self) -> list[Interval]:
        """95 % interval of the call's probability per class; None where the patches lie too close together."""
        return call_intervals(self.fused, self.tissue, self.blocks)

    @cached_property
    def image_call(self) -> SlideCall:
        """The patches brought together, from the image alone."""
        return aggregate(self.image, self.tissue)

    def called_patches(self, taxonomy: Taxonomy) -> dict[str, tuple[int, ...]]:
        """Class to the indices of the patches that call it."""
        best = self.fused.argmax(axis=1)
        return {name: tuple(np.flatnonzero(best == index).tolist()) for index, name in enumerate(taxonomy.class_names)}


def just_called(prediction: SlidePrediction, record: SlideRecord) -> CalledSlide:
    """What the models say of a slide, with its `record`."""
    prepared = prediction.prepared
    return CalledSlide(
        record=record,
        width=prepared.slide.dimensions[0],
        thumbnail=prepared.thumbnail,
        outlines=prepared.tissue.outlines(),
        tissue_mm2=prepared.tissue.area_mm2,
        tiles=prediction.tiles,
        fused=prediction.fused,
        image=prediction.image,
        gate=prediction.gate,
        texts=prediction.texts,
        left_out=prediction.left_out(),
        target_mpp=prepared.plan.target_mpp,
        tile_px=prepared.plan.tile_px,
        chosen=prediction.chosen,
    )
