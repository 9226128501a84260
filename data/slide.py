"""One whole-slide image, read at any resolution."""

import math
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.errors import InputError
from data.mpp import Mpp, resolve_mpp
from data.readers.registry import choose_reader, open_file
from data.readers.slide_file import ReadError, SlideFile

__all__ = ["Header", "Overview", "ReadError", "Slide", "open_slide"]

# A level up to 1 % coarser than wanted is taken: pyramids halve odd sizes, so a factor of 2 is stored as 2.0005.
LEVEL_TOLERANCE = 1.01
# Regions that meet the pixel grid this closely (in pixels of the level) are taken as they are.
GRID_TOLERANCE = 0.01
OVERVIEW_BLOCK_PX = 2048
SMALLEST_BLOCK_PX = 256
# Per side of an overview: a slide of which nothing can be read would else be tried for an hour.
MOST_BLOCKS = 64
# A square metre of tissue would have fewer tiles, and the longest glass is shorter; a damaged header claims more.
LARGEST_GRID = 4_000_000
LARGEST_SIDE = 4_000_000


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

    reader: str
    """Name of the reader that opens the file."""
    vendor: str
    """The reader's name of the format."""
    width: int
    height: int
    downsamples: tuple[float, ...]
    """Level-0 pixels per pixel of each level, finest first; infinite for one that must not be read."""
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
        self.opening = secrets.token_hex(8)
        """Tells this slide from others, also those read from the same path after its file was replaced."""
        self._local = threading.local()

    @property
    def mpp(self) -> Mpp:
        """Level-0 resolution."""
        return self.header.mpp

    @property
    def vendor(self) -> str:
        """The reader's name of the format."""
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
        """Raise InputError where the slide is smaller than one tile of `tile_px` at `target_mpp`, or absurdly large."""
        size_px = self.size_px(target_mpp=target_mpp, tile_px=tile_px)
        size = f"{self.header.width} x {self.header.height} px at {self.mpp}"
        if min(self.dimensions) < math.floor(size_px):
            raise InputError(
                f"{self.path}: too small, {size}, expected at least one tile of {size_px:.0f} px; leave it out"
            )
        if max(self.dimensions) > LARGEST_SIDE or self.header.width * self.header.height > LARGEST_GRID * size_px**2:
            raise InputError(
                f"{self.path}: implausibly large, {size}, expected at most {LARGEST_GRID:,} tiles and {LARGEST_SIDE:,} "
                "px; replace the file, or correct its resolution in the slide manifest (column mpp)"
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
        origin = (round(left * downsample), round(top * downsample))
        pixels = self._read(origin, level, (max(1, right - left), max(1, bottom - top)))
        height_read, width_read = pixels.shape[:2]
        # The pyramid begins at whole level-0 pixels, so this is where the pixels read really lie.
        from_left, from_top = (x - origin[0]) / downsample, (y - origin[1]) / downsample
        box = (
            max(0.0, from_left),
            max(0.0, from_top),
            min(width_read, from_left + width / downsample),
            min(height_read, from_top + height / downsample),
        )
        whole = (0, 0, width_read, height_read)
        on_grid = max(abs(a - b) for a, b in zip(box, whole, strict=True)) <= GRID_TOLERANCE
        if on_grid and (width_read, height_read) == (out_width, out_height):
            return pixels
        # Pillow's bicubic widens with the reduction, so it antialiases, and takes a fractional box.
        return np.asarray(Image.fromarray(pixels).resize((out_width, out_height), Image.Resampling.BICUBIC, box=box))

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
        smallest = max(1, int(SMALLEST_BLOCK_PX / per_pixel), max(width, height) // MOST_BLOCKS)
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
        file: SlideFile | None = self._local.__dict__.pop("file", None)
        if file is not None:
            file.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> np.ndarray:
        """Read `size` pixels of `level` at the level-0 `location` as RGB uint8 (height, width, 3) on white."""
        try:
            if "file" not in self._local.__dict__:
                self._local.file = open_file(self.path, self.header.reader)
            file: SlideFile = self._local.file
            return file.read(x=location[0], y=location[1], level=level, width=size[0], height=size[1])
        except ReadError:
            # After an error OpenSlide refuses every further read on the handle.
            self.close()
            raise
        except InputError as error:
            raise ReadError(str(error)) from error


def open_slide(
    path: Path,
    *,
    slide_id: str | None = None,
    manifest_mpp: float | None = None,
    command_line_mpp: float | None = None,
    reader: str = "auto",
) -> Slide:
    """Read the header of the slide at `path` and return it, with no file left open.

    `slide_id` defaults to the file's name; `reader` is a name of `data.readers.registry`, or "auto". Raises InputError
    where the file cannot be opened, or where its resolution is unknown or implausible (see `resolve_mpp`).
    """
    reader = choose_reader(path, reader)
    file = open_file(path, reader)
    try:
        header = Header(
            reader=reader,
            vendor=file.vendor,
            width=file.dimensions[0],
            height=file.dimensions[1],
            downsamples=file.downsamples,
            mpp=resolve_mpp(file.properties, path=path, manifest=manifest_mpp, command_line=command_line_mpp),
        )
    finally:
        file.close()
    return Slide(path, slide_id=slide_id or path.name, header=header)
