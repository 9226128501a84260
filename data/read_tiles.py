"""Pixels of many tiles, read ahead by threads in batches of a fixed order and bounded memory."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from data.slide import ReadError, Slide
from data.tiles import Tile


@dataclass(frozen=True, eq=False)
class TileBatch:
    """Consecutive tiles of a plan with their pixels."""

    tiles: tuple[Tile, ...]
    """The N tiles that could be read."""
    pixels: np.ndarray
    """RGB uint8 (N, tile_px, tile_px, 3); N may be 0."""
    unreadable: tuple[tuple[Tile, str], ...]
    """Tiles of this batch that could not be read, each with the reason."""


def read_tiles(
    slide: Slide, tiles: Sequence[Tile], *, tile_px: int, batch_size: int, prefetch: int = 4, workers: int = 2
) -> Iterator[TileBatch]:
    """Yield `tiles` in their order, `batch_size` at a time, as pixels of `tile_px`.

    `workers` threads read ahead, each with a file handle of its own (OpenSlide releases the GIL), and at most
    `prefetch` batches wait or are being read, so memory is bounded by (prefetch + 1) batches whatever the slide. A
    tile that cannot be read costs only itself.
    """
    waiting: deque[Future[TileBatch]] = deque()
    starts = iter(range(0, len(tiles), batch_size))
    executor = ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="tiles")
    try:
        for start in starts:
            waiting.append(executor.submit(_read_batch, slide, tiles[start : start + batch_size], tile_px))
            if len(waiting) >= max(1, prefetch):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _read_batch(slide: Slide, tiles: Sequence[Tile], tile_px: int) -> TileBatch:
    pixels = np.empty((len(tiles), tile_px, tile_px, 3), dtype=np.uint8)
    read: list[Tile] = []
    unreadable: list[tuple[Tile, str]] = []
    for tile in tiles:
        try:
            pixels[len(read)] = slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=tile_px)
        except ReadError as error:
            unreadable.append((tile, str(error)))
        else:
            read.append(tile)
    return TileBatch(tiles=tuple(read), pixels=pixels[: len(read)], unreadable=tuple(unreadable))
