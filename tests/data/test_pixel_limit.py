"""An image that would need all memory is refused by what its header states, before it is decoded."""

import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from data.check_images import check_images
from data.errors import InputError
from data.image import read_image
from data.pixel_limit import DEFAULT, VARIABLE, check_pixels, max_image_pixels
from data.slide import open_slide

SIDE = 60_000


def write_png(path: Path, side: int = SIDE) -> Path:
    """A PNG of a few bytes that states `side` px squared."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def write_tiff(path: Path, *, tiled: bool) -> Path:
    """A TIFF of a few bytes that states 60,000 px squared, in one tile or one strip."""
    pixels = np.zeros((128, 128, 3), dtype=np.uint8)
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(path, pixels, tile=(128, 128) if tiled else None, photometric="rgb", **resolution)
    with tifffile.TiffFile(path, mode="r+") as file:
        sides = ("ImageWidth", "ImageLength")
        for name in (*sides, *(("TileWidth", "TileLength") if tiled else ("RowsPerStrip",))):
            file.pages[0].tags[name].overwrite(SIDE)  # type: ignore[union-attr]
    return path


@pytest.mark.parametrize("make", [write_png, lambda path: write_tiff(path, tiled=False)], ids=["png", "tiff"])
def test_a_small_file_that_states_a_huge_image_is_refused_in_one_line(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "bomb")  # type: ignore[operator]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"bomb: .*{VARIABLE}") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    (checked,) = check_images([path])
    assert checked.side is None and "pixels" in checked.reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    assert max_image_pixels() == DEFAULT
    for allowed in ("1999", "999"):
        monkeypatch.setenv(VARIABLE, allowed)
        with pytest.raises(InputError, match=r"a\.png"):
            read_image(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"above the limit|states more"):
            open_slide(tmp_path / "a.png", command_line_mpp=0.5)
    monkeypatch.setenv(VARIABLE, "2000")
    assert read_image(tmp_path / "a.png").shape == (40, 50, 3)
    check_pixels(tmp_path, 2000, 1)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match=f"{VARIABLE}={text}: give a whole number"):
        max_image_pixels()


@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
def test_a_slide_in_one_huge_tile_is_refused_before_it_is_read(tmp_path: Path, reader: str) -> None:
    path = write_tiff(tmp_path / "bomb.tiff", tiled=True)
    with pytest.raises(InputError, match="a tile of the file of 60000 x 60000 px, above the limit"):
        open_slide(path, reader=reader)
