"""Reading slides at any resolution."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_slide import draw_glass, draw_tissue, write_slide

from data.errors import InputError
from data.slide import ReadError, Slide, open_slide


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slide, np.ndarray]:
    pixels = draw_glass()
    draw_tissue(pixels, left=300, top=200, right=1300, bottom=1000)
    return open_slide(write_slide(tmp_path_factory.mktemp("slides") / "drawn.tiff", pixels)), pixels


def test_a_header_tells_format_size_levels_and_resolution(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, _ = drawn
    assert (slide.vendor, slide.dimensions, slide.level_count) == ("generic-tiff", (1600, 1200), 3)
    assert str(slide.mpp) == "0.5 µm/px (file)"


def test_native_tiles_are_the_pixels_of_the_file(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, pixels = drawn
    tile = slide.read_tile(x=513, y=401, size_px=224, tile_px=224)
    np.testing.assert_array_equal(tile, pixels[401:625, 513:737])


def test_outside_the_slide_is_white(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, pixels = drawn
    tile = slide.read_tile(x=1500, y=1100, size_px=224, tile_px=224)
    np.testing.assert_array_equal(tile[:100, :100], pixels[1100:, 1500:])
    assert (tile[100:] == 255).all()
    assert (tile[:, 100:] == 255).all()


@pytest.mark.parametrize("factor", [0.5, 1.003, 1.5, 2.0, 3.3, 4.0, 7.0])
def test_a_resampled_tile_covers_exactly_its_square(tmp_path: Path, factor: float) -> None:
    ramp = np.zeros((1024, 1024, 3), dtype=np.uint8)
    ramp[..., 0] = np.arange(1024)[None] // 4
    ramp[..., 1] = np.arange(1024)[:, None] // 4
    slide = open_slide(write_slide(tmp_path / "ramp.tiff", ramp))
    size = 100 * factor
    tile = slide.read_tile(x=130, y=90, size_px=size, tile_px=100).astype(float)
    centres = (np.arange(100) + 0.5) * factor
    # The ramp grows by 1 every 4 px; steps of the ramp and 8-bit rounding cost half a grey level each.
    assert np.abs(tile[50, 2:-2, 0] - ((130 + centres) / 4 - 0.5)[2:-2]).max() < 1.0
    assert np.abs(tile[2:-2, 50, 1] - ((90 + centres) / 4 - 0.5)[2:-2]).max() < 1.0


def test_reduction_antialiases(tmp_path: Path) -> None:
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    slide = open_slide(write_slide(tmp_path / "board.tiff", np.repeat(board[..., None], 3, axis=2), levels=1))
    tile = slide.read_tile(x=0, y=0, size_px=400, tile_px=100).astype(float)
    assert np.abs(tile - 127.5).max() < 6


def test_the_coarsest_level_that_is_fine_enough_is_read(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, _ = drawn
    assert [slide.best_level(downsample) for downsample in (0.5, 1.0, 1.9, 1.99, 2.0, 3.9, 4.0, 50.0)] == [
        0, 0, 0, 1, 1, 1, 2, 2,
    ]  # fmt: skip


def test_an_overview_in_blocks_equals_the_overview_in_one(
    drawn: tuple[Slide, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, _ = drawn
    whole = slide.overview(mpp=4.0)
    monkeypatch.setattr("data.slide.OVERVIEW_BLOCK_PX", 64)
    blocks = slide.overview(mpp=4.0)
    assert whole.pixels.shape == (150, 200, 3)
    assert whole.scale == pytest.approx(8.0)
    difference = np.abs(whole.pixels.astype(int) - blocks.pixels)
    assert difference.mean() < 1


def test_a_thumbnail_fits_its_size_and_is_never_enlarged(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, _ = drawn
    assert slide.thumbnail(400).shape == (300, 400, 3)
    assert slide.thumbnail(9999).shape == (1200, 1600, 3)


def test_a_slide_survives_pickling_while_open(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, _ = drawn
    before = slide.read_tile(x=500, y=400, size_px=64, tile_px=64)
    copy = pickle.loads(pickle.dumps(slide))
    np.testing.assert_array_equal(copy.read_tile(x=500, y=400, size_px=64, tile_px=64), before)


def test_threads_may_share_a_slide(drawn: tuple[Slide, np.ndarray]) -> None:
    slide, pixels = drawn
    with ThreadPoolExecutor(4) as executor:
        corners = [(x, y) for x in range(0, 1400, 100) for y in range(0, 1000, 100)]
        tiles = executor.map(lambda corner: slide.read_tile(x=corner[0], y=corner[1], size_px=64, tile_px=64), corners)
        for (x, y), tile in zip(corners, tiles, strict=True):
            np.testing.assert_array_equal(tile, pixels[y : y + 64, x : x + 64])


def test_a_slide_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    slide = open_slide(write_slide(tmp_path / "tiny.tiff", draw_glass(width=200, height=300), levels=1))
    slide.check_size(target_mpp=0.5, tile_px=200)
    with pytest.raises(InputError, match=r"tiny\.tiff: too small"):
        slide.check_size(target_mpp=0.5, tile_px=224)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.svs: no such file"):
        open_slide(tmp_path / "gone.svs")


def test_a_file_that_vanishes_after_opening_costs_reads_not_a_crash(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "slide.tiff", draw_glass())
    slide = open_slide(path)
    path.unlink()
    with pytest.raises(ReadError, match="no such file"):
        slide.read_tile(x=0, y=0, size_px=64, tile_px=64)


@pytest.mark.parametrize(
    "name", ["empty.svs", "text-renamed.svs", "truncated.svs", "plain-rgb.tif", "unsupported-dicom.dcm"]
)
def test_files_that_openslide_cannot_open_are_refused_in_one_line(real_data: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: OpenSlide cannot open it") as caught:
        open_slide(real_data / "slides" / "negative" / name, command_line_mpp=0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("boxes.tiff", "352.778"), ("not-tissue.dcm", "16.783")])
def test_implausible_real_files_are_refused_with_their_value(real_data: Path, name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name}: implausible resolution of {value}"):
        open_slide(real_data / "slides" / "negative" / name)


@pytest.mark.parametrize("name", ["TCGA-CR-7395-01A-01-TS1.svs", "C3L-00601-26.tiff"])
def test_real_slides_without_resolution_need_one(real_data: Path, name: str) -> None:
    path = real_data / "slides" / name
    with pytest.raises(InputError, match="give --mpp"):
        open_slide(path)
    assert open_slide(path, command_line_mpp=1.0).mpp.origin == "command line"
    assert open_slide(path, command_line_mpp=1.0, manifest_mpp=2.0).mpp.value == 2.0


def test_reading_goes_on_after_a_damaged_region(real_data: Path) -> None:
    damaged = open_slide(real_data / "slides" / "negative" / "corrupt-tiles.svs")
    sound = open_slide(real_data / "slides" / "CMU-1-Small-Region.svs")
    unreadable = 0
    for y in range(0, 2880, 240):
        for x in range(0, 2160, 240):
            try:
                tile = damaged.read_tile(x=x, y=y, size_px=240, tile_px=240)
            except ReadError:
                unreadable += 1
                continue
            np.testing.assert_array_equal(tile, sound.read_tile(x=x, y=y, size_px=240, tile_px=240))
    assert 0 < unreadable < 30


def test_an_overview_marks_what_is_damaged_and_shows_the_rest(real_data: Path) -> None:
    overview = open_slide(real_data / "slides" / "negative" / "corrupt-tiles.svs").overview()
    assert 0.02 < overview.unreadable.mean() < 0.2
    sound = open_slide(real_data / "slides" / "CMU-1-Small-Region.svs").overview()
    difference = np.abs(overview.pixels.astype(int) - sound.pixels)[~overview.unreadable]
    assert difference.mean() < 1
