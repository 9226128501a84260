"""The grid of tiles, and reading it."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_slide import draw_fold, draw_glass, draw_pen, draw_tissue, write_slide

from data.errors import InputError
from data.focus import out_of_focus, sharpness
from data.mpp import Mpp
from data.read_tiles import read_tiles
from data.slide import Header, Slide, open_slide
from data.tiles import TilePlan, plan_tiles
from data.tissue import TissueMask, find_tissue


def blank_slide(*, width: int, height: int, mpp: float = 0.25) -> Slide:
    header = Header(
        vendor="none", width=width, height=height, downsamples=(1.0,), mpp=Mpp(value=mpp, origin="manifest")
    )
    return Slide(Path("blank.svs"), slide_id="blank.svs", header=header)


def tissue_mask(tissue: np.ndarray, *, scale: float) -> TissueMask:
    none = np.zeros_like(tissue)
    return TissueMask(tissue=tissue, pen=none, fold=none, unreadable=none, scale=scale, mpp=8.0)


def plan_of(slide: Slide, *, target_mpp: float, tile_px: int) -> TilePlan:
    return plan_tiles(slide, find_tissue(slide.overview()), target_mpp=target_mpp, tile_px=tile_px)


@pytest.mark.parametrize(("mpp", "target", "tile_px"), [(0.2527, 0.5, 224), (0.499, 0.5, 224), (0.499, 1.1, 256)])
def test_rounding_does_not_add_up_over_a_large_slide(mpp: float, target: float, tile_px: int) -> None:
    slide = blank_slide(width=100_000, height=60_000, mpp=mpp)
    plan = plan_tiles(slide, tissue_mask(np.ones((600, 1000), bool), scale=100), target_mpp=target, tile_px=tile_px)
    step = tile_px * target / mpp
    assert all(tile.size_px == step for tile in plan.tiles)
    for tile in plan.tiles:
        column, row = round(tile.x / step), round(tile.y / step)
        assert abs(tile.x - column * step) <= 0.5
        assert abs(tile.y - row * step) <= 0.5
    assert len({(tile.x, tile.y) for tile in plan.tiles}) == len(plan.tiles)


def test_every_square_of_the_grid_is_either_a_tile_or_rejected_with_a_reason() -> None:
    rng = np.random.default_rng(1)
    slide = blank_slide(width=5_000, height=3_300)
    plan = plan_tiles(slide, tissue_mask(rng.random((33, 50)) > 0.5, scale=100), target_mpp=0.5, tile_px=100)
    assert len(plan.tiles) + len(plan.rejected) == plan.columns * plan.rows == 25 * 17
    assert sum(plan.reasons().values()) == len(plan.rejected)


def test_the_share_of_tissue_is_exact_where_masks_and_tiles_do_not_align() -> None:
    tissue = np.zeros((30, 30), dtype=bool)
    tissue[:, :10] = True
    slide = blank_slide(width=960, height=960, mpp=0.5)
    plan = plan_tiles(slide, tissue_mask(tissue, scale=32), target_mpp=0.5, tile_px=192, min_tissue=0.5)
    # Tissue ends at x = 320: the second tile covers 192-384, two thirds of it tissue.
    assert [tile.tissue for tile in plan.tiles[:2]] == pytest.approx([1.0, 2 / 3])
    assert {tile.x for tile in plan.tiles} == {0, 192}


def test_a_damaged_region_stays_in_the_plan_so_that_reading_reports_it() -> None:
    slide = blank_slide(width=1000, height=1000)
    none = np.zeros((10, 10), dtype=bool)
    masks = TissueMask(tissue=none, pen=none, fold=none, unreadable=~none, scale=100, mpp=8.0)
    assert len(plan_tiles(slide, masks, target_mpp=0.25, tile_px=500).tiles) == 4


def test_a_slide_smaller_than_a_tile_is_refused() -> None:
    with pytest.raises(InputError, match="too small"):
        plan_tiles(
            blank_slide(width=400, height=900),
            tissue_mask(np.ones((9, 4), bool), scale=100),
            target_mpp=0.5,
            tile_px=224,
        )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    pixels = draw_glass(width=3000, height=2400)
    draw_tissue(pixels, left=300, top=200, right=2700, bottom=2200)
    draw_pen(pixels, "blue", left=0, top=300, right=1200, bottom=700)
    draw_fold(pixels, left=600, top=1400, right=2400, bottom=1560)
    return open_slide(write_slide(tmp_path_factory.mktemp("slides") / "drawn.tiff", pixels))


def test_pen_fold_and_background_tiles_are_told_apart(drawn: Slide) -> None:
    plan = plan_of(drawn, target_mpp=0.5, tile_px=160)
    reasons = {(tile.x // 160, tile.y // 160): reason for tile, reason in plan.rejected}
    assert reasons[0, 0] == "background"
    assert reasons[4, 3] == "pen"
    assert reasons[9, 9] == "fold"
    assert (9, 5) not in reasons
    assert all(tile.tissue >= 0.5 for tile in plan.tiles)


def test_tiles_are_read_in_order_whatever_the_number_of_threads(drawn: Slide) -> None:
    tiles = plan_of(drawn, target_mpp=0.75, tile_px=64).tiles
    runs = []
    for workers, prefetch in ((1, 1), (3, 4)):
        batches = list(read_tiles(drawn, tiles, tile_px=64, batch_size=7, prefetch=prefetch, workers=workers))
        assert [tile for batch in batches for tile in batch.tiles] == list(tiles)
        assert {len(batch.tiles) for batch in batches[:-1]} == {7}
        runs.append(np.concatenate([batch.pixels for batch in batches]))
    assert runs[0].shape == (len(tiles), 64, 64, 3)
    np.testing.assert_array_equal(runs[0], runs[1])


def test_reading_ahead_is_bounded(drawn: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = plan_of(drawn, target_mpp=0.5, tile_px=64).tiles
    reads, lock = [0], threading.Lock()
    read_tile = Slide.read_tile

    def counted(slide: Slide, **arguments: float) -> np.ndarray:
        with lock:
            reads[0] += 1
        return read_tile(slide, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Slide, "read_tile", counted)
    batches = read_tiles(drawn, tiles, tile_px=64, batch_size=4, prefetch=3, workers=2)
    next(batches)
    batches.close()
    assert reads[0] <= 4 * 4 < len(tiles)


def test_leaving_early_stops_the_threads(drawn: Slide) -> None:
    tiles = plan_of(drawn, target_mpp=0.5, tile_px=64).tiles
    batches = read_tiles(drawn, tiles, tile_px=64, batch_size=4)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiles")]


def test_no_tiles_give_no_batches(drawn: Slide) -> None:
    assert list(read_tiles(drawn, (), tile_px=64, batch_size=4)) == []


def test_damaged_tiles_are_reported_and_the_others_are_the_pixels_of_the_sound_file(real_data: Path) -> None:
    damaged = open_slide(real_data / "slides" / "negative" / "corrupt-tiles.svs")
    sound = open_slide(real_data / "slides" / "CMU-1-Small-Region.svs")
    tiles = plan_of(damaged, target_mpp=0.5, tile_px=112).tiles
    batches = list(read_tiles(damaged, tiles, tile_px=112, batch_size=16, workers=2))
    read = [tile for batch in batches for tile in batch.tiles]
    unreadable = [tile for batch in batches for tile, _ in batch.unreadable]
    assert sorted([*read, *unreadable], key=lambda tile: (tile.y, tile.x)) == list(tiles)
    assert read
    assert unreadable
    assert all("corrupt-tiles.svs: cannot read" in message for batch in batches for _, message in batch.unreadable)
    expected = [sound.read_tile(x=t.x, y=t.y, size_px=t.size_px, tile_px=112) for t in read]
    np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in batches]), expected)


@pytest.mark.parametrize(
    ("name", "mpp"),
    [("CMU-1-Small-Region.svs", None), ("TCGA-CR-7395-01A-01-TS1.svs", 1.0), ("C3L-00601-26.tiff", 2.0)],
)
def test_real_slides_give_tissue_tiles(real_data: Path, name: str, mpp: float | None) -> None:
    slide = open_slide(real_data / "slides" / name, command_line_mpp=mpp)
    plan = plan_of(slide, target_mpp=0.5, tile_px=224)
    batch = next(iter(read_tiles(slide, plan.tiles[len(plan.tiles) // 2 :], tile_px=224, batch_size=8)))
    assert len(plan.tiles) > 30
    assert not batch.unreadable
    # Tissue absorbs green most.
    assert (batch.pixels.mean(axis=(1, 2)).argmin(axis=-1) == 1).all()


def test_blurred_tiles_are_told_from_sharp_ones(drawn: Slide) -> None:
    tiles = [drawn.read_tile(x=x, y=900, size_px=160, tile_px=160) for x in range(1300, 2500, 160)]
    blurred = cv2.GaussianBlur(tiles[0], (0, 0), 6.0)
    assert out_of_focus(sharpness(np.stack([*tiles, blurred]))).tolist() == [False] * len(tiles) + [True]
    assert out_of_focus(np.zeros(0, dtype=np.float32)).shape == (0,)
