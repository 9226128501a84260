"""Slides through OpenSlide: Aperio, Hamamatsu, Leica, MIRAX, Philips, Ventana, Zeiss, DICOM, tiled TIFF."""

import ctypes
from pathlib import Path

import cv2
import numpy as np
import openslide
import openslide.lowlevel

from data.errors import InputError
from data.pixel_limit import check_pixels
from data.plain_reason import plain_reason
from data.readers.slide_file import ReadError, checked_downsamples

# Neighbouring tiles share tiles of the file: 256 tiles of 256 px stay decoded, a region of 4096 px squared.
CACHE_BYTES = 64 * 2**20

OPAQUE = 0xFF000000
# What else a file says may identify the patient.
PROPERTIES = ("openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power")


class OpenSlideFile:
    """A slide opened by OpenSlide; a DICOM slide by any of its files or their folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = openslide.OpenSlide(_entry(path))
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise InputError(
                f"{path}: OpenSlide cannot open it (empty, truncated or not a slide); replace the file or leave it "
                "out, or give --reader image if it is a plain image"
            ) from error
        except openslide.OpenSlideError as error:
            raise InputError(
                f"{path}: OpenSlide cannot open it ({plain_reason(error)}); replace the file or leave it out"
            ) from error
        self._buffer = np.empty(0, dtype=np.uint32)
        self._handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
        # One by one: of a damaged file OpenSlide names properties that it does not have.
        found = {name: self._handle.properties.get(name) for name in PROPERTIES}
        self.properties = {name: value for name, value in found.items() if value is not None}
        self.vendor = self._handle.properties.get("openslide.vendor", "unknown")
        self.dimensions: tuple[int, int] = self._handle.dimensions
        self.downsamples = tuple(self._handle.level_downsamples)
        # A tile of the file is decoded whole, however little of it is asked for.
        for level in range(self._handle.level_count):
            sides = [
                self._handle.properties.get(f"openslide.level[{level}].tile-{side}") for side in ("width", "height")
            ]
            if None not in sides:
                check_pixels(path, *(int(str(side)) for side in sides), what="a tile of the file")
        # Philips pads levels to whole tiles and states the downsample, so there the sides prove nothing.
        if self.vendor != "philips":
            self.downsamples = checked_downsamples(path, self.downsamples, self._handle.level_dimensions)

    def read(self, *, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """As `SlideFile.read`."""
        if self._buffer.size < width * height:
            self._buffer = np.empty(width * height, dtype=np.uint32)
        buffer = self._buffer[: width * height]
        address = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
        try:
            # The C function itself: its Python wrapper makes three copies of the pixels, 8 % of the time of a tile.
            openslide.lowlevel._read_region(self._handle._osr, address, x, y, level, width, height)
        except openslide.OpenSlideError as error:
            raise ReadError(
                f"{self._path}: cannot read {width} x {height} px at ({x}, {y}): {plain_reason(error)}"
            ) from error
        # 0xAARRGGBB as all machines that OpenSlide is built for have it in memory: little-endian.
        bgra = buffer.view(np.uint8).reshape(height, width, 4)
        rgb = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB)
        if buffer.min() >= OPAQUE:
            return rgb
        # Colours are premultiplied, so what is transparent is as black as it is to become white.
        return cv2.add(rgb, np.repeat(255 - bgra[..., 3:], 3, axis=2))

    def close(self) -> None:
        """As `SlideFile.close`."""
        self._handle.close()


def _entry(path: Path) -> Path:
    """The file to open: `path`, or for a folder its first DICOM file."""
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".dcm")
    if not files:
        raise InputError(f"{path}: a folder without DICOM files (.dcm); give a slide file")
    return files[0]
