"""Pixels of many tiles, read ahead by processes in batches of a fixed order and bounded memory."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from data.focus import sharpness
from data.normalise import Stain, normalise
from data.reader_pool import ReaderPool
from data.slide import ReadError, Slide
from data.tiles import Tile

PART = 64
"""Most tiles that are read in one go, which a buffer of the pool has to hold."""
SMALLEST_PART = 8
PARTS_EACH = 2


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Consecutive tiles of a plan with their pixels."""

    tiles: tuple[Tile, ...]
    """The N tiles that could be read."""
    pixels: np.ndarray
    """RGB uint8 (N, tile_px, tile_px, 3); N may be 0."""
    sharpness: np.ndarray
    """Float32 (N,), see `data.focus`; NaN where it was not asked for."""
    unreadable: tuple[tuple[Tile, str], ...]
    """Tiles of this batch that could not be read, each with the reason."""


@dataclass(frozen=True)
class TileRequest:
    """How tiles are read."""

    tile_px: int
    """Side of a tile in pixels of the target resolution."""
    upsampling: float = 1.0
    """How many times finer the target is than the file."""
    score_focus: bool = False
    """Whether to measure how sharp each tile is."""
    stain: tuple[Stain, Stain] | None = None
    """The slide's stain and the one that its colours are brought to."""


def read_tiles(
    slide: Slide,
    tiles: Sequence[Tile],
    request: TileRequest,
    *,
    pool: ReaderPool,
    batch_size: int,
    deadline: float | None = None,
) -> Generator[TileBatch, None, None]:
    """Yield `tiles` in their order, `batch_size` at a time, those that cannot be read included in the count.

    The processes of `pool` read ahead into buffers of a fixed size, so memory is bounded whatever the slide. A tile
    that cannot be read costs only itself. Raises ReaderStopped where reading crashes or `deadline` passes.
    """
    tile_bytes = request.tile_px**2 * 3
    if tile_bytes > pool.slot_bytes:
        raise ValueError(f"a tile of {tile_bytes} bytes does not fit the pool's {pool.slot_bytes}")
    # Whole blocks of the plan where there are many tiles, since neighbours share tiles of the file; less where that
    # would leave processes without work.
    part_size = min(pool.slot_bytes // tile_bytes, max(SMALLEST_PART, len(tiles) // (PARTS_EACH * pool.workers)))
    part_size = math.ceil(batch_size / math.ceil(batch_size / part_size))
    batches = [tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size)]
    calls = (
        (slide, tuple(batch[start : start + part_size]), request)
        for batch in batches
        for start in range(0, len(batch), part_size)
    )
    answers = pool.stream(_read_part, calls, name=str(slide.path), deadline=deadline)
    try:
        for batch in batches:
            pixels = np.empty((len(batch), request.tile_px, request.tile_px, 3), dtype=np.uint8)
            read: list[Tile] = []
            scores: list[float] = []
            unreadable: list[tuple[Tile, str]] = []
            for start in range(0, len(batch), part_size):
                (part_scores, reasons), buffer = next(answers)
                part = batch[start : start + part_size]
                found = [tile for index, tile in enumerate(part) if index not in reasons]
                filled = buffer[: len(found) * tile_bytes].reshape(len(found), *pixels.shape[1:])
                pixels[len(read) : len(read) + len(found)] = filled
                read += found
                scores += part_scores
                unreadable += [(part[index], reason) for index, reason in reasons.items()]
            yield TileBatch(
                tiles=tuple(read),
                pixels=pixels[: len(read)],
                sharpness=np.array(scores, dtype=np.float32),
                unreadable=tuple(unreadable),
            )
    finally:
        answers.close()


def _read_part(
    slide: Slide, tiles: Sequence[Tile], request: TileRequest, buffer: np.ndarray
) -> tuple[list[float], dict[int, str]]:
    """Write what can be read, tile after tile, into `buffer`; return its sharpness, and why the others cannot."""
    slide = _last_slide.reuse(slide)
    shape = (request.tile_px, request.tile_px, 3)
    size = math.prod(shape)
    reasons: dict[int, str] = {}
    scores: list[float] = []
    for index, tile in enumerate(tiles):
        try:
            pixels = slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=request.tile_px)
        except ReadError as error:
            reasons[index] = str(error)
            continue
        place = len(scores) * size
        scores.append(sharpness(pixels, upsampling=request.upsampling) if request.score_focus else math.nan)
        if request.stain is not None:
            pixels = normalise(pixels, slide=request.stain[0], reference=request.stain[1])
        buffer[place : place + size].reshape(shape)[:] = pixels
    return scores, reasons


class _LastSlide:
    """The slide that this process read last, so that its file stays open between calls."""

    def __init__(self) -> None:
        self._slide: Slide | None = None

    def reuse(self, slide: Slide) -> Slide:
        """Return the open slide where it is `slide`, else close it and keep `slide`."""
        if self._slide is None or self._slide.opening != slide.opening:
            if self._slide is not None:
                self._slide.close()
            self._slide = slide
        return self._slide


_last_slide = _LastSlide()
