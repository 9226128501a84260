"""Slides through tiffslide, which reads TIFF-based formats in Python."""

import logging
from pathlib import Path

import numpy as np
import tiffslide

from data.errors import InputError
from data.pixel_limit import check_pixels
from data.readers.slide_file import ReadError, checked_downsamples

# It logs tags with their values, and the values of some name the patient.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


class TiffSlideFile:
    """A slide opened by tiffslide."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = tiffslide.TiffSlide(path)
            self.dimensions: tuple[int, int] = self._handle.dimensions
            downsamples, levels = self._handle.level_downsamples, self._handle.level_dimensions
            found = self._handle.properties
        # tiffslide, tifffile and zarr each raise what they like on a damaged file, with what they found in it.
        except Exception as error:
            raise InputError(
                f"{path}: tiffslide cannot open it ({type(error).__name__}); replace the file, leave it out, or give "
                "--reader openslide"
            ) from error
        self.downsamples = checked_downsamples(path, downsamples, levels)
        # A tile of the file is decoded whole, however little of it is asked for; without tiles, a level is one.
        for number, (width, height) in enumerate(levels):
            tile = [found.get(f"tiffslide.level[{number}].tile-{side}") or 0 for side in ("width", "height")]
            check_pixels(path, int(tile[0]) or width, int(tile[1]) or height, what="a tile of the file")
        self.vendor = str(found.get("tiffslide.vendor") or "unknown")
        self.properties = {
            f"openslide.{name}": str(found[f"tiffslide.{name}"])
            for name in ("mpp-x", "mpp-y", "objective-power")
            if found.get(f"tiffslide.{name}") is not None
        }

    def read(self, *, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """As `SlideFile.read`."""
        try:
            # Outside the slide tiffslide fills with black, so only what lies inside is asked for.
            region = np.full((height, width, 3), 255, dtype=np.uint8)
            step = self.downsamples[level]
            level_width, level_height = self._handle.level_dimensions[level]
            left, top = max(0, -round(x / step)), max(0, -round(y / step))
            right = min(width, level_width - round(x / step))
            bottom = min(height, level_height - round(y / step))
            if right > left and bottom > top:
                region[top:bottom, left:right] = self._handle.read_region(
                    (max(0, x), max(0, y)), level, (right - left, bottom - top), as_array=True
                )[..., :3]
        except Exception as error:
            raise ReadError(
                f"{self._path}: cannot read {width} x {height} px at ({x}, {y}): {type(error).__name__}"
            ) from error
        return region

    def close(self) -> None:
        """As `SlideFile.close`."""
        self._handle.close()
