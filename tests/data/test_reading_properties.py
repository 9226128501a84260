"""What holds of any position, size and resolution."""

import math
from pathlib import Path

import numpy as np
import pytest
from drawn_slide import write_slide
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.mpp import Mpp
from data.slide import Header, Slide, open_slide
from data.tiles import plan_tiles
from data.tissue import TissueMask

SIDE = 256


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Slides of one to four levels: red grows with x, green with y, by 1 every pixel."""
    ramp = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    ramp[..., 0] = np.arange(SIDE)[None]
    ramp[..., 1] = np.arange(SIDE)[:, None]
    folder = tmp_path_factory.mktemp("ramps")
    return {levels: write_slide(folder / f"{levels}.tiff", ramp, levels=levels) for levels in (1, 2, 4)}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_tile_covers_exactly_its_square_whatever_the_levels(ramps: dict[int, Path], data: st.DataObject) -> None:
    slide = open_slide(ramps[data.draw(st.sampled_from(sorted(ramps)))], manifest_mpp=data.draw(st.floats(0.1, 4.0)))
    tile_px = data.draw(st.integers(8, 64))
    factor = data.draw(st.floats(0.3, 0.9 * SIDE / tile_px))
    size_px = slide.size_px(target_mpp=factor * slide.mpp.value, tile_px=tile_px)
    assert size_px == pytest.approx(factor * tile_px)
    fraction = data.draw(st.sampled_from([0.0, 0.5, 0.37]))
    x, y = (math.floor(data.draw(st.floats(0, SIDE - 1 - size_px))) + fraction for _ in range(2))
    tile = slide.read_tile(x=x, y=y, size_px=size_px, tile_px=tile_px).astype(float)
    assert tile.shape == (tile_px, tile_px, 3)
    centres = (np.arange(tile_px) + 0.5) * factor - 0.5
    # At the very edge of the slide the filter has neighbours on one side only.
    expected_x, expected_y = (np.clip(start + centres, 0, SIDE - 1) for start in (x, y))
    # A grey level is a pixel: half is lost where a level is rounded to 8 bits, half in the tile.
    assert np.abs(tile[..., 0] - expected_x)[2:-2, 2:-2].max() <= 1.2
    assert np.abs(tile[..., 1] - expected_y[:, None])[2:-2, 2:-2].max() <= 1.2


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    mpp=st.floats(0.1, 4.0),
    target_mpp=st.floats(0.1, 4.0),
    tile_px=st.integers(16, 512),
    scale=st.floats(1.0, 64.0),
    seed=st.integers(0, 2**16),
)
def test_every_square_of_any_grid_is_a_tile_or_rejected_exactly_once(
    width: int, height: int, mpp: float, target_mpp: float, tile_px: int, scale: float, seed: int
) -> None:
    header = Header(
        reader="openslide", vendor="none", width=width, height=height, downsamples=(1.0,),
        mpp=Mpp(value=mpp, origin="manifest"),
    )  # fmt: skip
    slide = Slide(Path("any.svs"), slide_id="any.svs", header=header)
    rng = np.random.default_rng(seed)
    shape = math.ceil(height / scale), math.ceil(width / scale)
    tissue, pen, fold, edge, unreadable = (rng.random(shape) < share for share in (0.7, 0.03, 0.1, 0.03, 0.05))
    masks = TissueMask(
        tissue=tissue, pen=pen & ~tissue, fold=fold & tissue, edge=edge & ~tissue & ~pen, unreadable=unreadable,
        scale=scale, mpp=mpp * scale,
    )  # fmt: skip
    size_px = tile_px * target_mpp / mpp
    if min(width, height) < math.floor(size_px):
        with pytest.raises(InputError, match=r"any\.svs: too small"):
            plan_tiles(slide, masks, target_mpp=target_mpp, tile_px=tile_px)
        return
    if width * height / size_px**2 > 20_000:
        return
    plan = plan_tiles(slide, masks, target_mpp=target_mpp, tile_px=tile_px)
    everything = [*plan.tiles, *(tile for tile, _ in plan.rejected)]
    step = plan.tile_px * plan.target_mpp / mpp
    squares = [(round(column * step), round(row * step)) for column in range(plan.columns) for row in range(plan.rows)]
    assert sorted((tile.x, tile.y) for tile in everything) == sorted(squares)
    assert len(everything) == plan.columns * plan.rows
    # The grid covers the slide, with no column or row beyond it.
    for length, count in ((width, plan.columns), (height, plan.rows)):
        assert (count - 1) * step < max(length, 1) <= count * step + 1e-3 or count == 1
    assert all(-1e-6 <= tile.tissue <= 1 + 1e-6 for tile in everything)
    assert sum(plan.reasons().values()) == len(plan.rejected)
    assert plan.upsampling == max(1.0, mpp / target_mpp)
