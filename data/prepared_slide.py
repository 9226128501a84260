"""What is known of a slide before any model sees it: resolution, tissue, stain and the tiles to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.errors import InputError
from data.given_tiles import plan_given_tiles
from data.normalise import Stain, fit_stain
from data.slide import Overview, ReadError, Slide, open_slide
from data.tiles import Tile, TilePlan, plan_tiles
from data.tissue import TissueMask, check_stain, find_tissue

THUMBNAIL_PX = 900
STAIN_SAMPLE_TILES = 32


class NotForUs(InputError):
    """A sound slide that is not of the kind that is called, for example fluorescence."""


@dataclass(frozen=True, kw_only=True)
class SlideRequest:
    """How a slide is opened and cut into tiles."""

    target_mpp: float
    tile_px: int
    min_tissue: float = 0.5
    reader: str = "auto"
    any_stain: bool = False
    """Whether a slide that does not look like H&E is used all the same."""
    manifest_mpp: float | None = None
    command_line_mpp: float | None = None
    reference: Stain | None = None
    """Stain to normalise to; None leaves the colours as they are."""
    coordinates: Path | None = None
    """Folder of TRIDENT or CLAM files whose tiles are used in place of our own."""


@dataclass(frozen=True, eq=False)
class PreparedSlide:
    """A slide with its tissue found and its tiles planned."""

    slide: Slide
    overview: Overview
    thumbnail: np.ndarray
    """RGB uint8 (H, W, 3), THUMBNAIL_PX on the longer side where the slide has as many."""
    tissue: TissueMask
    plan: TilePlan
    stain: Stain | None
    """The slide's own stain, where colours are normalised."""
    doubt: str = ""
    """Why it would have been skipped, where it is used whatever its stain."""


def prepare_slide(path: Path, slide_id: str, request: SlideRequest, _: np.ndarray | None = None) -> PreparedSlide:
    """Open the slide at `path`, find its tissue and plan its tiles; the last argument is a reader pool's buffer.

    Raises NotForUs where it is not H&E, and InputError where it cannot be used.
    """
    slide = open_slide(
        path,
        slide_id=slide_id,
        manifest_mpp=request.manifest_mpp,
        command_line_mpp=request.command_line_mpp,
        reader=request.reader,
    )
    with slide:
        slide.check_size(target_mpp=request.target_mpp, tile_px=request.tile_px)
        overview = slide.overview()
        if overview.unreadable.all():
            raise InputError(f"{path}: no part of the slide can be read; replace the file or leave it out")
        tissue = find_tissue(overview)
        doubt = ""
        try:
            check_stain(overview, tissue, name=str(path))
        except InputError as error:
            if not request.any_stain:
                raise NotForUs(str(error)) from error
            doubt = str(error).removeprefix(f"{path}: ").partition(", expected")[0].partition(";")[0]
        plan = _plan(slide, tissue, request)
        return PreparedSlide(
            slide=slide,
            overview=overview,
            thumbnail=slide_thumbnail(slide, overview),
            tissue=tissue,
            plan=plan,
            stain=_stain(slide, plan, request.reference) if request.reference else None,
            doubt=doubt,
        )


def _plan(slide: Slide, tissue: TissueMask, request: SlideRequest) -> TilePlan:
    if request.coordinates is None:
        return plan_tiles(
            slide, tissue, target_mpp=request.target_mpp, tile_px=request.tile_px, min_tissue=request.min_tissue
        )
    return plan_given_tiles(slide, request.coordinates, target_mpp=request.target_mpp, tile_px=request.tile_px)


def slide_thumbnail(slide: Slide, overview: Overview) -> np.ndarray:
    """RGB uint8 (H, W, 3) of the whole slide, THUMBNAIL_PX on the longer side where the slide has as many."""
    height, width = overview.pixels.shape[:2]
    if max(width, height) <= THUMBNAIL_PX:
        return slide.thumbnail(THUMBNAIL_PX)
    scale = THUMBNAIL_PX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(overview.pixels, size, interpolation=cv2.INTER_AREA)


def _stain(slide: Slide, plan: TilePlan, reference: Stain) -> Stain:
    """Estimate the stain from tiles that lie evenly over the slide."""
    chosen = plan.tiles[:: max(1, len(plan.tiles) // STAIN_SAMPLE_TILES)][:STAIN_SAMPLE_TILES]
    pixels = _readable(slide, chosen, plan.tile_px)
    if not pixels:
        raise InputError(f"{slide.path}: no tile to estimate the stain from; do without --normalise or leave it out")
    return fit_stain(reference.method, np.stack(pixels), source=str(slide.path))


def _readable(slide: Slide, tiles: Sequence[Tile], tile_px: int) -> list[np.ndarray]:
    found = []
    for tile in tiles:
        try:
            found.append(slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=tile_px))
        except ReadError:
            # Whoever reads all tiles reports it; the others are sample enough.
            continue
    return found
