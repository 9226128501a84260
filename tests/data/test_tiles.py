"""The grid of tiles."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_slide import draw_fold, draw_glass, draw_pen, draw_tissue, write_slide

from data.errors import InputError
from data.focus import out_of_focus, sharpness
from data.mpp import Mpp
from data.slide import Header, Slide, open_slide
from data.tiles import TilePlan, plan_tiles
from data.tissue import TissueMask, find_tissue


def blank_slide(*, width: int, height: int, mpp: float = 0.25) -> Slide:
    header = Header(
        reader="openslide",
        vendor="none",
        width=width,
        height=height,
        downsamples=(1.0,),
        mpp=Mpp(value=mpp, origin="manifest"),
    )
    return Slide(Path("blank.svs"), slide_id="blank.svs", header=header)


def tissue_mask(tissue: np.ndarray, *, scale: float) -> TissueMask:
    none = np.zeros_like(tissue)
    return TissueMask(tissue=tissue, pen=none, fold=none, edge=none, unreadable=none, scale=scale, mpp=8.0)


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
    masks = TissueMask(tissue=none, pen=none, fold=none, edge=none, unreadable=~none, scale=100, mpp=8.0)
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


def test_edges_are_the_reason_where_they_cover_tissue_or_take_its_place() -> None:
    # One row of tiles, 10 pixels wide: tissue, tissue crossed by an edge, edge, more edge than glass, glass.
    tissue, edge = np.zeros((10, 50), dtype=bool), np.zeros((10, 50), dtype=bool)
    tissue[:, :18] = edge[:, 18:38] = True
    none = np.zeros_like(tissue)
    masks = TissueMask(tissue=tissue, pen=none, fold=none, edge=edge, unreadable=none, scale=100, mpp=8.0)
    plan = plan_tiles(blank_slide(width=5000, height=1000), masks, target_mpp=0.25, tile_px=1000)
    assert [tile.x for tile in plan.tiles] == [0]
    assert [(tile.x, reason) for tile, reason in plan.rejected] == [
        (1000, "edge"),
        (2000, "edge"),
        (3000, "edge"),
        (4000, "background"),
    ]


def test_blurred_tiles_are_told_from_sharp_ones(drawn: Slide) -> None:
    tiles = [drawn.read_tile(x=x, y=900, size_px=160, tile_px=160) for x in range(1300, 2500, 160)]
    blurred = cv2.GaussianBlur(tiles[0], (0, 0), 6.0)
    scores = np.array([sharpness(tile) for tile in [*tiles, blurred]], dtype=np.float32)
    assert out_of_focus(scores).tolist() == [False] * len(tiles) + [True]
    assert out_of_focus(np.zeros(0, dtype=np.float32)).shape == (0,)
