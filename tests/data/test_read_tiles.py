"""Reading many tiles of a slide by several processes."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_slide import draw_glass, draw_tissue, write_slide
from hypothesis import given, settings
from hypothesis import strategies as st

from data.focus import sharpness
from data.normalise import Stain, normalise
from data.read_tiles import PART, TileBatch, TileRequest, read_tiles
from data.reader_pool import ReaderPool, TimeLimitPassed
from data.slide import Slide, open_slide
from data.tiles import Tile, TilePlan, plan_tiles
from data.tissue import find_tissue

LARGEST_TILE_PX = 224


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    with ReaderPool(workers=2, slot_bytes=PART * LARGEST_TILE_PX**2 * 3) as pool:
        yield pool


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    pixels = draw_glass(width=1500, height=1200)
    draw_tissue(pixels, left=200, top=150, right=1400, bottom=1100)
    return open_slide(write_slide(tmp_path_factory.mktemp("slides") / "drawn.tiff", pixels))


@pytest.fixture(scope="module")
def tiles(drawn: Slide) -> tuple[Tile, ...]:
    return plan_of(drawn, target_mpp=0.75, tile_px=64).tiles


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (1200, 1500, 3), dtype=np.uint8)


def plan_of(slide: Slide, *, target_mpp: float, tile_px: int) -> TilePlan:
    return plan_tiles(slide, find_tissue(slide.overview()), target_mpp=target_mpp, tile_px=tile_px)


def pixels_of(batches: list[TileBatch]) -> np.ndarray:
    return np.concatenate([batch.pixels for batch in batches])


def one_by_one(slide: Slide, tiles: list[Tile], tile_px: int) -> np.ndarray:
    return np.stack([slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=tile_px) for tile in tiles])


def test_tiles_are_read_in_order_whatever_the_number_of_processes(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    expected = one_by_one(drawn, list(tiles), 64)
    with ReaderPool(workers=1, slot_bytes=64**2 * 3) as small:
        for readers in (small, pool):
            batches = list(read_tiles(drawn, tiles, TileRequest(tile_px=64), pool=readers, batch_size=7))
            assert [tile for batch in batches for tile in batch.tiles] == list(tiles)
            assert {len(batch.tiles) for batch in batches[:-1]} == {7}
            assert not any(batch.unreadable for batch in batches)
            np.testing.assert_array_equal(pixels_of(batches), expected)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_order_and_any_batch_size_give_the_same_pixels(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(tiles), min_size=1, max_size=80))
    batch_size = data.draw(st.integers(1, 90))
    batches = list(read_tiles(drawn, chosen, TileRequest(tile_px=64), pool=pool, batch_size=batch_size))
    assert [tile for batch in batches for tile in batch.tiles] == chosen
    assert [len(batch.tiles) for batch in batches[:-1]] == [batch_size] * (math.ceil(len(chosen) / batch_size) - 1)
    np.testing.assert_array_equal(pixels_of(batches), one_by_one(drawn, chosen, 64))


def test_a_batch_keeps_its_pixels_while_others_are_read(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    reading = read_tiles(drawn, tiles, TileRequest(tile_px=64), pool=pool, batch_size=16)
    batches = [(batch, batch.pixels.copy()) for batch in reading]
    for batch, before in batches:
        np.testing.assert_array_equal(batch.pixels, before)


def test_sharpness_is_that_of_each_tile_before_normalisation(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    slide = Stain(method="reinhard", parameters=((60.0, 20.0, -10.0), (15.0, 6.0, 5.0)), source="slide")
    reference = Stain(method="reinhard", parameters=((70.0, 25.0, -15.0), (10.0, 8.0, 5.0)), source="reference")
    request = TileRequest(tile_px=64, upsampling=1.5, score_focus=True, stain=(slide, reference))
    (batch,) = read_tiles(drawn, tiles[:10], request, pool=pool, batch_size=10)
    plain = one_by_one(drawn, list(tiles[:10]), 64)
    np.testing.assert_array_equal(batch.pixels, normalise(plain, slide=slide, reference=reference))
    assert batch.sharpness.tolist() == pytest.approx([sharpness(tile, upsampling=1.5) for tile in plain])


def test_sharpness_that_was_not_asked_for_is_not_a_number(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    (batch,) = read_tiles(drawn, tiles[:10], TileRequest(tile_px=64), pool=pool, batch_size=10)
    assert batch.sharpness.shape == (10,)
    assert np.isnan(batch.sharpness).all()


def test_reading_ahead_is_bounded(drawn: Slide, pool: ReaderPool) -> None:
    request = TileRequest(tile_px=LARGEST_TILE_PX)
    batches = read_tiles(drawn, [Tile(x=0, y=0, size_px=100.0)] * 10_000, request, pool=pool, batch_size=PART)
    started = time.monotonic()
    next(batches)
    batches.close()
    # All of them would take a minute: at most two parts per process are begun.
    assert time.monotonic() - started < 5


def test_leaving_early_leaves_nothing_for_the_next_slide(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    batches = read_tiles(drawn, tiles, TileRequest(tile_px=64), pool=pool, batch_size=4)
    next(batches)
    batches.close()
    (batch,) = read_tiles(drawn, tiles[-5:], TileRequest(tile_px=64), pool=pool, batch_size=5)
    np.testing.assert_array_equal(batch.pixels, one_by_one(drawn, list(tiles[-5:]), 64))


def test_an_error_while_a_batch_is_used_leaves_nothing_for_the_next_slide(
    drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool
) -> None:
    # Kept, as its traceback keeps the stream open.
    errors = []
    try:
        for _ in read_tiles(drawn, tiles, TileRequest(tile_px=64), pool=pool, batch_size=4):
            raise OSError
    except OSError as error:
        errors.append(error)
    (batch,) = read_tiles(drawn, tiles[-5:], TileRequest(tile_px=64), pool=pool, batch_size=5)
    np.testing.assert_array_equal(batch.pixels, one_by_one(drawn, list(tiles[-5:]), 64))


def test_no_tiles_give_no_batches(drawn: Slide, pool: ReaderPool) -> None:
    assert list(read_tiles(drawn, (), TileRequest(tile_px=64), pool=pool, batch_size=4)) == []


def test_a_tile_larger_than_the_buffers_is_a_mistake_of_the_caller(drawn: Slide, pool: ReaderPool) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        next(read_tiles(drawn, (), TileRequest(tile_px=4096), pool=pool, batch_size=4))


def test_a_deadline_ends_reading(drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool) -> None:
    with pytest.raises(TimeLimitPassed, match=r"drawn\.tiff: the time limit has passed"):
        list(read_tiles(drawn, tiles, TileRequest(tile_px=64), pool=pool, batch_size=4, deadline=time.monotonic()))


def test_slides_take_turns(drawn: Slide, tiles: tuple[Tile, ...], pool: ReaderPool, tmp_path: Path) -> None:
    other = open_slide(write_slide(tmp_path / "other.tiff", noise()))
    for slide in (drawn, other, drawn):
        batches = list(read_tiles(slide, tiles[:20], TileRequest(tile_px=64), pool=pool, batch_size=20))
        np.testing.assert_array_equal(pixels_of(batches), one_by_one(slide, list(tiles[:20]), 64))


def test_a_file_that_vanishes_costs_its_tiles(tiles: tuple[Tile, ...], pool: ReaderPool, tmp_path: Path) -> None:
    path = write_slide(tmp_path / "gone.tiff", noise())
    slide = open_slide(path)
    path.unlink()
    (batch,) = read_tiles(slide, tiles[:6], TileRequest(tile_px=64), pool=pool, batch_size=6)
    assert batch.pixels.shape == (0, 64, 64, 3)
    assert batch.sharpness.shape == (0,)
    assert [tile for tile, _ in batch.unreadable] == list(tiles[:6])
    assert all(reason.startswith(f"{path}: no such file") for _, reason in batch.unreadable)


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_a_file_that_was_replaced_is_opened_again(tiles: tuple[Tile, ...], pool: ReaderPool, tmp_path: Path) -> None:
    path = write_slide(tmp_path / "slide.tiff", draw_glass(width=1500, height=1200))
    request = TileRequest(tile_px=64)
    (before,) = read_tiles(open_slide(path), tiles[:20], request, pool=pool, batch_size=20)
    write_slide(tmp_path / "better.tiff", noise()).replace(path)
    (after,) = read_tiles(open_slide(path), tiles[:20], request, pool=pool, batch_size=20)
    assert before.pixels.std() < 1
    assert after.pixels.std() > 10


def test_damaged_tiles_are_reported_and_the_others_are_the_pixels_of_the_sound_file(
    real_data: Path, pool: ReaderPool
) -> None:
    damaged = open_slide(real_data / "slides" / "negative" / "corrupt-tiles.svs")
    sound = open_slide(real_data / "slides" / "CMU-1-Small-Region.svs")
    tiles = plan_of(damaged, target_mpp=0.5, tile_px=112).tiles
    batches = list(read_tiles(damaged, tiles, TileRequest(tile_px=112), pool=pool, batch_size=16))
    place = {tile: number for number, tile in enumerate(tiles)}
    for number, batch in enumerate(batches):
        found = [place[tile] for tile in [*batch.tiles, *(tile for tile, _ in batch.unreadable)]]
        assert sorted(found) == list(range(16 * number, min(16 * number + 16, len(tiles))))
        assert [place[tile] for tile in batch.tiles] == sorted(place[tile] for tile in batch.tiles)
    read = [tile for batch in batches for tile in batch.tiles]
    assert 0 < len(read) < len(tiles)
    assert all("corrupt-tiles.svs: cannot read" in message for batch in batches for _, message in batch.unreadable)
    np.testing.assert_array_equal(pixels_of(batches), one_by_one(sound, read, 112))


@pytest.mark.parametrize(
    ("name", "mpp"),
    [("CMU-1-Small-Region.svs", None), ("TCGA-CR-7395-01A-01-TS1.svs", 1.0), ("C3L-00601-26.tiff", 2.0)],
)
def test_real_slides_give_tissue_tiles(real_data: Path, pool: ReaderPool, name: str, mpp: float | None) -> None:
    slide = open_slide(real_data / "slides" / name, command_line_mpp=mpp)
    plan = plan_of(slide, target_mpp=0.5, tile_px=224)
    middle = len(plan.tiles) // 2
    request = TileRequest(tile_px=224)
    (batch,) = read_tiles(slide, plan.tiles[middle : middle + 8], request, pool=pool, batch_size=8)
    assert len(plan.tiles) > 30
    assert not batch.unreadable
    # Tissue absorbs green most.
    assert (batch.pixels.mean(axis=(1, 2)).argmin(axis=-1) == 1).all()
