"""Plain PNG, JPEG and TIFF images as slides of one level."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.image import read_image


class ImageFile:
    """A plain image, decoded whole.

    Its resolution is not believed: the dots per inch of a plain image are meant for printers, so it has to be given.
    """

    def __init__(self, path: Path) -> None:
        self._pixels = read_image(path)
        self.vendor = "plain image"
        self.dimensions = (self._pixels.shape[1], self._pixels.shape[0])
        self.downsamples = (1.0,)
        self.properties: Mapping[str, str] = {}

    def read(self, *, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """As `SlideFile.read`."""
        region = np.full((height, width, 3), 255, dtype=np.uint8)
        left, top = max(0, x), max(0, y)
        inside = self._pixels[top : max(0, y + height), left : max(0, x + width)]
        region[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]] = inside
        return region

    def close(self) -> None:
        """As `SlideFile.close`."""
