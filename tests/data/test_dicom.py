"""Reading whole-slide DICOM series."""

from pathlib import Path

import numpy as np
import pytest
from drawn_dicom import write_dicom
from drawn_slide import draw_glass, draw_tissue

from data.errors import InputError
from data.find_slides import find_slides
from data.slide import open_slide


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], np.ndarray]:
    pixels = draw_glass(width=900, height=700)
    # Smooth, so that JPEG costs little, and different everywhere, so that a tile in the wrong place shows.
    pixels[..., 0] = np.linspace(60, 240, 900)
    pixels[..., 1] = np.linspace(60, 240, 700)[:, None]
    return write_dicom(tmp_path_factory.mktemp("dicom"), pixels, mpp=0.25, levels=3, associated=("LABEL",)), pixels


def test_every_file_of_a_series_opens_the_same_slide(series: tuple[list[Path], np.ndarray]) -> None:
    files, pixels = series
    assert len(files) == 4
    for file in files:
        with open_slide(file) as slide:
            assert (slide.vendor, slide.dimensions, slide.level_count) == ("dicom", (900, 700), 3)
            assert str(slide.mpp) == "0.25 µm/px (file)"
            tile = slide.read_tile(x=150, y=201, size_px=224, tile_px=224).astype(int)
            assert np.abs(tile - pixels[201:425, 150:374]).max() <= 4


@pytest.mark.parametrize("factor", [2.0, 3.0, 4.0])
def test_coarser_tiles_are_read_from_the_levels(series: tuple[list[Path], np.ndarray], factor: float) -> None:
    files, pixels = series
    with open_slide(files[1]) as slide:
        tile = slide.read_tile(x=120, y=60, size_px=128 * factor, tile_px=128)
    centres = (np.arange(128) + 0.5) * factor - 0.5
    expected = np.interp(120 + centres, np.arange(900), pixels[0, :, 0])
    assert np.abs(tile[64, 2:-2, 0] - expected[2:-2]).max() <= 4
    expected = np.interp(60 + centres, np.arange(700), pixels[:, 0, 1])
    assert np.abs(tile[2:-2, 64, 1] - expected[2:-2]).max() <= 4


def test_a_series_is_found_as_one_slide_by_folder_and_by_file(series: tuple[list[Path], np.ndarray]) -> None:
    files, _ = series
    assert [path.name for path in find_slides(files[0].parent)] == ["level0.dcm"]
    for file in files:
        assert find_slides(file) == [file]


def test_tissue_keeps_its_colours(tmp_path: Path) -> None:
    pixels = draw_glass(width=600, height=500)
    draw_tissue(pixels, left=100, top=100, right=500, bottom=400)
    with open_slide(write_dicom(tmp_path, pixels)[1]) as slide:
        tile = slide.read_tile(x=0, y=0, size_px=500, tile_px=500).astype(int)
    # Chroma is stored at half the width, which blurs the edges of nuclei but keeps the mean colour.
    assert np.abs(tile - pixels[:500, :500]).mean() < 3
    assert np.abs((tile - pixels[:500, :500]).mean(axis=(0, 1))).max() < 1


def test_a_series_of_which_only_the_label_is_left_cannot_be_opened(tmp_path: Path) -> None:
    (label,) = write_dicom(tmp_path, draw_glass(width=300, height=260), levels=0)
    with pytest.raises(InputError, match=r"a0-label\.dcm.*No pyramid levels"):
        open_slide(label)
