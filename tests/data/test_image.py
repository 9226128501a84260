"""A patch image is read as RGB pixels, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import InputError
from data.image import read_image


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read[0, 0].tolist() == [10, 20, 30]
    assert read[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGB"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 4)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").shape == (4, 5, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png: cannot be read as an image"):
        read_image(tmp_path / "bad.png")
