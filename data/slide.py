"""One whole-slide image, read through OpenSlide at any resolution."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from PIL import Image

from data.errors import InputError
from data.mpp import Mpp, resolve_mpp

WHITE = (255, 255, 255)
# A level up to 1 % coarser than wanted is taken: pyramids halve odd sizes, so a factor of 2 is stored as 2.0005.
LEVEL_TOLERANCE = 1.01
# Regions that meet the pixel grid this closely (in pixels of the level) are taken as they are.
GRID_TOLERANCE = 0.01
OVERVIEW_BLOCK_PX = 2048
SMALLEST_BLOCK_PX = 256


class ReadError(InputError):
    """A region of a slide that cannot be read; others may still be."""


@dataclass(frozen=True, eq=False)
class Overview:
    """The whole slide at low power."""

    pixels: np.ndarray
    """RGB uint8 (H, W, 3); white where nothing could be read."""
    scale: float
    """Level-0 pixels per pixel."""
    mpp: float
    """µm per pixel."""
    unreadable: np.ndarray
    """Bool (H, W): the file is damaged here."""


@dataclass(frozen=True)
class Header:
    """What a slide file says about its pyramid."""

    vendor: str
    width: int
    height: int
    downsamples: tuple[float, ...]
    """Level-0 pixels per pixel of each level, finest first."""
    mpp: Mpp


class Slide:
    """A slide that opens its file on first read, once per thread, so it may be pickled and shared between threads.

    Only pixels of the pyramid are read: label image, macro image and properties that identify a patient stay in the
    file. Use `open_slide` to make one.
    """

    def __init__(self, path: Path, *, slide_id: str, header: Header) -> None:
        self.path = path
        self.slide_id = slide_id
        self.header = header
        self._local = threading.local()

    @property
    def mpp(self) -> Mpp:
        """Level-0 resolution."""
        return self.header.mpp

    @property
    def vendor(self) -> str:
        """OpenSlide's name of the format."""
        return self.header.vendor

    @property
    def dimensions(self) -> tuple[int, int]:
        """Level-0 (width, height) in pixels."""
        return self.header.width, self.header.height

    @property
    def level_count(self) -> int:
        """Number of resolutions stored."""
        return len(self.header.downsamples)

    def __getstate__(self) -> dict[str, Any]:
        # A handle survives neither pickling nor fork; the receiver opens its own.
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"Slide({self.slide_id!r}, {self.header.width} x {self.header.height}, {self.mpp})"

    def check_size(self, *, target_mpp: float, tile_px: int) -> None:
        """Raise InputError where the slide is smaller than one tile of `tile_px` at `target_mpp`."""
        size_px = self.size_px(target_mpp=target_mpp, tile_px=tile_px)
        if min(self.dimensions) < math.floor(size_px):
            raise InputError(
                f"{self.path}: too small, {self.header.width} x {self.header.height} px at {self.mpp}, expected at "
                f"least one tile of {size_px:.0f} px; leave it out or give a smaller tile"
            )

    def size_px(self, *, target_mpp: float, tile_px: int) -> float:
        """Side in level-0 pixels of a tile of `tile_px` pixels at `target_mpp` µm/px; not rounded."""
        return tile_px * target_mpp / self.mpp.value

    def best_level(self, downsample: float) -> int:
        """Index of the coarsest level that is not coarser than `downsample` level-0 pixels per pixel."""
        fine = [index for index, own in enumerate(self.header.downsamples) if own <= downsample * LEVEL_TOLERANCE]
        return fine[-1] if fine else 0

    def read_region(
        self, *, x: float, y: float, width: float, height: float, out_width: int, out_height: int
    ) -> np.ndarray:
        """Read the level-0 rectangle and resample it, antialiased, to RGB uint8 (out_height, out_width, 3).

        `x`, `y`, `width`, `height` are level-0 pixels and may be fractional; what lies outside the slide is white.
        Raises ReadError where the file is damaged; the next read starts on a fresh handle.
        """
        level = self.best_level(min(width / out_width, height / out_height))
        downsample = self.header.downsamples[level]
        left, top = math.floor(x / downsample), math.floor(y / downsample)
        right = math.ceil((x + width) / downsample - GRID_TOLERANCE)
        bottom = math.ceil((y + height) / downsample - GRID_TOLERANCE)
        # (bottom - top, right - left) at the level
        image = self._read(
            (round(left * downsample), round(top * downsample)), level, (max(1, right - left), max(1, bottom - top))
        )
        box = (
            max(0.0, x / downsample - left),
            max(0.0, y / downsample - top),
            min(image.width, (x + width) / downsample - left),
            min(image.height, (y + height) / downsample - top),
        )
        whole = (0, 0, image.width, image.height)
        on_grid = max(abs(a - b) for a, b in zip(box, whole, strict=True)) <= GRID_TOLERANCE
        if not (on_grid and image.size == (out_width, out_height)):
            # Pillow's bicubic widens with the reduction, so it antialiases, and takes a fractional box.
            image = image.resize((out_width, out_height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(image)

    def read_tile(self, *, x: float, y: float, size_px: float, tile_px: int) -> np.ndarray:
        """Read the level-0 square at (x, y) of side `size_px` as RGB uint8 (tile_px, tile_px, 3)."""
        return self.read_region(x=x, y=y, width=size_px, height=size_px, out_width=tile_px, out_height=tile_px)

    def overview(self, *, mpp: float = 4.0, max_px: int = 3072) -> Overview:
        """Read the whole slide at `mpp` µm/px, coarser where its longer side would exceed `max_px`.

        Never finer than level 0. Read in blocks, so memory does not grow with the slide, and damaged parts cost only
        themselves.
        """
        scale = max(mpp / self.mpp.value, max(self.dimensions) / max_px, 1.0)
        width, height = (math.ceil(length / scale - GRID_TOLERANCE) for length in self.dimensions)
        pixels = np.full((height, width, 3), 255, dtype=np.uint8)
        unreadable = np.zeros((height, width), dtype=bool)
        per_pixel = scale / self.header.downsamples[self.best_level(scale)]
        block = max(1, int(OVERVIEW_BLOCK_PX / per_pixel))
        smallest = max(1, int(SMALLEST_BLOCK_PX / per_pixel))
        waiting = [
            (x, y, min(x + block, width), min(y + block, height))
            for y in range(0, height, block)
            for x in range(0, width, block)
        ]
        while waiting:
            left, top, right, bottom = waiting.pop()
            try:
                pixels[top:bottom, left:right] = self.read_region(
                    x=left * scale,
                    y=top * scale,
                    width=(right - left) * scale,
                    height=(bottom - top) * scale,
                    out_width=right - left,
                    out_height=bottom - top,
                )
            except ReadError:
                if max(right - left, bottom - top) <= smallest:
                    unreadable[top:bottom, left:right] = True
                    continue
                across, down = (left + right + 1) // 2, (top + bottom + 1) // 2
                quarters = [
                    (a, b, c, d) for a, c in ((left, across), (across, right)) for b, d in ((top, down), (down, bottom))
                ]
                waiting += [quarter for quarter in quarters if quarter[0] < quarter[2] and quarter[1] < quarter[3]]
        return Overview(pixels=pixels, scale=scale, mpp=scale * self.mpp.value, unreadable=unreadable)

    def thumbnail(self, max_px: int) -> np.ndarray:
        """Return RGB uint8 (H, W, 3) of the whole slide with its longer side at most `max_px`; white where damaged."""
        return self.overview(mpp=0.0, max_px=max_px).pixels

    def close(self) -> None:
        """Close the file in this thread; a later read opens it again."""
        handle: openslide.OpenSlide | None = self._local.__dict__.pop("handle", None)
        if handle is not None:
            handle.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Read `size` pixels of `level` at the level-0 `location` as an RGB image on white."""
        try:
            if "handle" not in self._local.__dict__:
                self._local.handle = _open(self.path)
            image: Image.Image = self._local.handle.read_region(location, level, size)
        except openslide.OpenSlideError as error:
            # After an error OpenSlide refuses every further read on the handle.
            self.close()
            raise ReadError(
                f"{self.path}: cannot read {size[0]} x {size[1]} px at {location}: {_line(error)}"
            ) from error
        except InputError as error:
            raise ReadError(str(error)) from error
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] == 255:
            return image.convert("RGB")
        opaque = Image.new("RGB", image.size, WHITE)
        opaque.paste(image, mask=alpha)
        return opaque


def open_slide(
    path: Path,
    *,
    slide_id: str | None = None,
    manifest_mpp: float | None = None,
    command_line_mpp: float | None = None,
) -> Slide:
    """Read the header of the slide at `path` and return it, with no file left open.

    `slide_id` defaults to the file's name. Raises InputError where OpenSlide cannot open the file, or where its
    resolution is unknown or implausible (see `resolve_mpp`).
    """
    with _open(path) as handle:
        properties = handle.properties
        width, height = handle.dimensions
        header = Header(
            vendor=properties.get("openslide.vendor", "unknown"),
            width=width,
            height=height,
            downsamples=tuple(float(value) for value in handle.level_downsamples),
            mpp=resolve_mpp(properties, path=path, manifest=manifest_mpp, command_line=command_line_mpp),
        )
    return Slide(path, slide_id=slide_id or path.name, header=header)


def _open(path: Path) -> openslide.OpenSlide:
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise InputError(
            f"{path}: OpenSlide cannot open it (empty, truncated or not a slide); replace the file or leave it out"
        ) from error
    except openslide.OpenSlideError as error:
        raise InputError(
            f"{path}: OpenSlide cannot open it ({_line(error)}); replace the file or leave it out"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
