"""Pixels of patches that lie inside slides, read ahead by processes and never written to disk."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.inside import child
from data.read_tiles import PART, TileRequest, read_tiles
from data.reader_pool import ReaderPool
from data.slide import open_slide
from data.tiles import Tile
from vlm_finetune.unseen import Place, Row

_AHEAD = 64


def read_slide_patches(
    rows: Sequence[Row], slides: Path, *, mpp: float | None, workers: int
) -> Iterator[tuple[Row, np.ndarray | InputError]]:
    """Yield each of `rows` with its pixels, RGB uint8 (size_px, size_px, 3), or with what is wrong with them.

    A slide that cannot be used costs its own rows, a part of it that cannot be read the rows there. The rows of one
    slide should follow one another, as `mmlnb tile` lists them.

    Args:
        slides: folder that the rows' slide ids are relative to.
        mpp: µm per pixel for slides whose file states none.
        workers: processes that read.
    """
    largest = max(row.place.size_px for row in rows if row.place) if rows else 1
    with ReaderPool(workers=workers, slot_bytes=PART * largest**2 * 3) as pool:
        for (name, size_px, target), group in groupby(rows, key=_source):
            left: dict[tuple[int, int], list[Row]] = {}
            for row in group:
                left.setdefault((_place(row).x, _place(row).y), []).append(row)
            try:
                path = slides if slides.is_file() else child(slides, name)
                slide = open_slide(path, command_line_mpp=mpp)
                side = size_px * target / slide.mpp.value
                tiles = [Tile(x=x, y=y, size_px=side) for x, y in left]
                for batch in read_tiles(slide, tiles, TileRequest(tile_px=size_px), pool=pool, batch_size=_AHEAD):
                    for tile, pixels in zip(batch.tiles, batch.pixels, strict=True):
                        for row in left.pop((tile.x, tile.y)):
                            yield row, pixels.copy()
                    for tile, reason in batch.unreadable:
                        for row in left.pop((tile.x, tile.y)):
                            yield row, InputError(reason)
            except InputError as error:
                for row in chain.from_iterable(left.values()):
                    yield row, error


def _source(row: Row) -> tuple[str, int, float]:
    place = _place(row)
    return place.slide_id, place.size_px, place.mpp


def _place(row: Row) -> Place:
    assert row.place is not None
    return row.place
