"""The readers of slide files: what one reads the others read too, and what is missing is named."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_dicom import write_dicom
from drawn_slide import draw_glass, draw_tissue, write_slide
from PIL import Image

from data.errors import InputError
from data.readers.registry import READERS, choose_reader, open_file
from data.readers.slide_file import ReadError, checked_downsamples
from data.slide import Slide, open_slide

MPP = 0.5
# Of the drawn slide: inside, over an edge of the file's tiles, at each corner, around all of it, and far outside.
REGIONS = [
    (300, 200, 64, 48), (120, 120, 300, 20), (-10, -20, 50, 60), (760, -20, 60, 50), (-10, 570, 50, 60),
    (780, 590, 64, 64), (-40, -40, 900, 700), (5000, 5000, 20, 30), (-200, 100, 50, 50), (100, -200, 50, 50),
]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    pixels = draw_glass(width=800, height=600)
    draw_tissue(pixels, left=100, top=80, right=700, bottom=520)
    return write_slide(tmp_path_factory.mktemp("slides") / "drawn.tiff", pixels, mpp=MPP), pixels


@pytest.fixture(params=sorted(READERS))
def reader(request: pytest.FixtureRequest) -> str:
    if request.param == "tiffslide":
        pytest.importorskip("tiffslide")
    return str(request.param)


def on_white(pixels: np.ndarray, *, x: int, y: int, width: int, height: int) -> np.ndarray:
    """The region of `pixels` with white around them."""
    border = 6000
    row = np.clip(np.arange(y, y + height), -border, border)
    column = np.clip(np.arange(x, x + width), -border, border)
    inside = np.ix_((row >= 0) & (row < pixels.shape[0]), (column >= 0) & (column < pixels.shape[1]))
    expected = np.full((height, width, 3), 255, dtype=np.uint8)
    rows, columns = row[inside[0][:, 0]], column[inside[1][0]]
    expected[inside] = pixels[np.ix_(rows, columns)]
    return expected


def test_every_reader_gives_the_pixels_of_the_file_and_white_outside(
    drawn: tuple[Path, np.ndarray], reader: str
) -> None:
    path, pixels = drawn
    file = open_file(path, reader)
    try:
        assert file.dimensions == (800, 600)
        assert file.downsamples[0] == 1.0
        for x, y, width, height in REGIONS:
            region = file.read(x=x, y=y, level=0, width=width, height=height)
            assert region.dtype == np.uint8
            np.testing.assert_array_equal(region, on_white(pixels, x=x, y=y, width=width, height=height))
    finally:
        file.close()


def test_a_region_stays_as_it_is_when_another_is_read(drawn: tuple[Path, np.ndarray], reader: str) -> None:
    path, _ = drawn
    file = open_file(path, reader)
    first = file.read(x=100, y=80, level=0, width=64, height=64)
    before = first.copy()
    file.read(x=0, y=0, level=0, width=64, height=64)
    file.close()
    np.testing.assert_array_equal(first, before)


def test_readers_agree_at_every_level_and_resolution(drawn: tuple[Path, np.ndarray]) -> None:
    pytest.importorskip("tiffslide")
    path, _ = drawn
    one, other = open_slide(path, reader="openslide"), open_slide(path, reader="tiffslide")
    assert one.header.downsamples == other.header.downsamples
    for size_px in (50, 100, 130, 200, 333.3, 400):
        for x, y in ((0, 0), (128, 64), (400, 300)):
            tiles = [slide.read_tile(x=x, y=y, size_px=size_px, tile_px=100) for slide in (one, other)]
            np.testing.assert_array_equal(*tiles)


def test_readers_agree_on_the_resolution(drawn: tuple[Path, np.ndarray], reader: str) -> None:
    path, _ = drawn
    if reader == "image":
        with pytest.raises(InputError, match=r"drawn\.tiff: the file states no resolution; give --mpp"):
            open_slide(path, reader=reader)
        assert open_slide(path, reader=reader, command_line_mpp=1.5).mpp.value == 1.5
    else:
        slide = open_slide(path, reader=reader)
        assert (slide.mpp.value, slide.mpp.origin) == (pytest.approx(MPP), "file")


def test_only_resolution_is_kept_of_what_a_file_states(drawn: tuple[Path, np.ndarray], reader: str) -> None:
    file = open_file(drawn[0], reader)
    file.close()
    assert set(file.properties) <= {"openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power"}


@pytest.mark.parametrize("name", ["slide.tiff", "slide.svs", "slide.png"])
def test_files_that_no_reader_can_open_are_refused_in_one_line(tmp_path: Path, reader: str, name: str) -> None:
    for content in (b"", b"not a slide at all" * 100, b"II*\0" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(40)):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
            open_slide(path, reader=reader, command_line_mpp=MPP)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "tif"])
def test_plain_images_are_slides_of_one_level(tmp_path: Path, suffix: str) -> None:
    pixels = draw_glass(width=300, height=200)
    draw_tissue(pixels, left=50, top=40, right=250, bottom=160)
    path = tmp_path / f"patch.{suffix}"
    Image.fromarray(pixels).save(path, **({"quality": 95} if suffix[0] == "j" else {}))
    slide = open_slide(path, command_line_mpp=MPP, reader="image" if suffix == "tif" else "auto")
    assert (slide.dimensions, slide.level_count, slide.vendor) == ((300, 200), 1, "plain image")
    tile = slide.read_tile(x=40, y=30, size_px=100, tile_px=100).astype(int)
    difference = np.abs(tile - pixels[30:130, 40:140])
    assert difference.mean() < 6 if suffix[0] == "j" else difference.max() == 0
    assert slide.overview().pixels.shape[:2] == (25, 38)


def test_a_plain_tiff_is_refused_by_openslide_with_the_reader_that_opens_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", draw_glass(width=300, height=200), photometric="rgb")
    with pytest.raises(InputError, match=r"plain\.tif: .*give --reader image"):
        open_slide(tmp_path / "plain.tif", command_line_mpp=MPP)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 4), dtype=np.uint8)
    pixels[:, :32] = (200, 100, 50, 255)
    pixels[:, 32:64] = (200, 100, 50, 128)
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    tile = open_slide(tmp_path / "patch.png", command_line_mpp=MPP).read_tile(x=0, y=0, size_px=64, tile_px=64)
    assert tile[0, 0].tolist() == [200, 100, 50]
    assert np.abs(tile[0, 40].astype(int) - (228, 178, 153)).max() <= 1
    assert (open_slide(tmp_path / "patch.png", command_line_mpp=MPP).thumbnail(96)[:, 64:] == 255).all()


def test_a_slide_is_white_where_openslide_has_no_tile(tmp_path: Path) -> None:
    """A tile of a sparse file has no bytes, which OpenSlide gives as transparent black."""
    pixels = np.full((512, 512, 3), 90, dtype=np.uint8)
    path = write_slide(tmp_path / "sparse.tiff", pixels, levels=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        for name in ("TileOffsets", "TileByteCounts"):
            tags[name].overwrite([0, *tags[name].value[1:]])
    tile = open_slide(path).read_tile(x=64, y=64, size_px=128, tile_px=128)
    assert (tile[:64, :64] == 255).all()
    assert (tile[64:] == 90).all()
    assert (tile[:, 64:] == 90).all()


def test_a_folder_with_one_dicom_series_is_one_slide(tmp_path: Path) -> None:
    pixels = draw_glass(width=600, height=500)
    draw_tissue(pixels, left=100, top=100, right=500, bottom=400)
    folder = tmp_path / "series"
    file = write_dicom(folder, pixels)[1]
    whole, single = open_slide(folder), open_slide(file)
    assert (whole.vendor, whole.header) == ("dicom", single.header)
    tiles = [slide.read_tile(x=100, y=100, size_px=200, tile_px=100) for slide in (whole, single)]
    np.testing.assert_array_equal(*tiles)


def test_a_folder_that_is_no_slide_is_refused(tmp_path: Path, reader: str) -> None:
    (tmp_path / "empty.svs").mkdir()
    with pytest.raises(InputError, match=r"empty\.svs: ") as caught:
        open_slide(tmp_path / "empty.svs", reader=reader, command_line_mpp=MPP)
    assert "\n" not in str(caught.value)


def test_an_unknown_reader_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"--reader zeiss: no such reader; give auto or .*openslide.*image"):
        choose_reader(Path("slide.svs"), "zeiss")


def test_an_absent_package_is_named_with_what_to_run(
    drawn: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tiffslide", None)
    monkeypatch.delitem(sys.modules, "data.readers.tiffslide_file", raising=False)
    for open_it in (lambda: choose_reader(drawn[0], "tiffslide"), lambda: open_slide(drawn[0], reader="tiffslide")):
        with pytest.raises(InputError, match=r"--reader tiffslide: .*run `pip install .*tiffslide") as caught:
            open_it()
        assert "\n" not in str(caught.value)
    assert open_slide(drawn[0]).vendor == "generic-tiff"


def test_the_reader_is_chosen_by_suffix_unless_it_is_named(drawn: tuple[Path, np.ndarray]) -> None:
    names = ("a.svs", "a.tif", "a.PNG", "a.jpeg", "folder", "a.dcm")
    assert [choose_reader(Path(name), "auto") for name in names] == [
        "openslide", "openslide", "image", "image", "openslide", "openslide",
    ]  # fmt: skip
    assert choose_reader(Path("a.png"), "openslide") == "openslide"


def test_damaged_tiles_are_errors_that_name_the_file_in_every_reader(tmp_path: Path, reader: str) -> None:
    if reader == "image":
        pytest.skip("a plain image is decoded whole, when it is opened")
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    path = write_slide(tmp_path / "damaged.tiff", pixels, levels=1)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    content[offset : offset + 2000] = os.urandom(2000)
    path.write_bytes(content)
    slide = open_slide(path, reader=reader)
    for _ in range(2):
        with pytest.raises(ReadError, match=r"damaged\.tiff: cannot read 64 x 64 px at \(0, 0\)") as caught:
            slide.read_tile(x=0, y=0, size_px=64, tile_px=64)
        assert "\n" not in str(caught.value)
        tile = slide.read_tile(x=200, y=200, size_px=64, tile_px=64)
        np.testing.assert_array_equal(tile, pixels[200:264, 200:264])


def test_a_level_whose_sides_contradict_each_other_is_not_read() -> None:
    path = Path("slide.svs")
    stated = [(4000, 3000), (2000, 1500), (1000, 2000), (500, 375), (251, 188), (128, 128)]
    downsamples = [1.0, 2.0, 2.75, 8.0, 15.95, 27.3]
    assert checked_downsamples(path, downsamples, stated) == (1.0, 2.0, math.inf, 8.0, 15.95, math.inf)
    assert checked_downsamples(path, [1.0, 0.0, math.inf], [(9, 9), (0, 0), (0, 3)]) == (1.0, math.inf, math.inf)
    with pytest.raises(InputError, match=r"slide\.svs: a level of 1000 x 2147483647 px in a slide of 4000 x 3000"):
        checked_downsamples(path, [1.0, 2.0], [(4000, 3000), (1000, 2**31 - 1)])


def test_a_level_of_another_shape_leaves_the_pixels_right(tmp_path: Path, reader: str) -> None:
    if reader == "image":
        pytest.skip("a plain image has one level")
    pixels = draw_glass(width=1024, height=512)
    pixels[:, 512:] = 60
    path = tmp_path / "odd.tiff"
    with tifffile.TiffWriter(path) as writer:
        # The second is padded to a square, as some writers pad small levels to whole tiles.
        padded = np.zeros((512, 512, 3), dtype=np.uint8)
        padded[:256] = pixels[::2, ::2]
        for level, content in enumerate((pixels, padded)):
            writer.write(
                content, tile=(128, 128), photometric="rgb", subfiletype=min(level, 1), metadata=None,
                resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
            )  # fmt: skip
    slide: Slide = open_slide(path, reader=reader)
    tile = slide.read_tile(x=256, y=0, size_px=512, tile_px=128)
    assert (tile[:, :60] > 235).all()
    assert (tile[:, 68:] == 60).all()
