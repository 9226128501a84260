"""Resolution of a slide in µm per pixel, and where it was read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError

Origin = Literal["file", "manifest", "command line"]

LOWEST_MPP = 0.1
HIGHEST_MPP = 4.0
HIGHEST_ASPECT = 1.05


@dataclass(frozen=True)
class Mpp:
    """Level-0 resolution of a slide."""

    value: float
    """µm per level-0 pixel."""
    origin: Origin

    def __str__(self) -> str:
        return f"{self.value:g} µm/px ({self.origin})"


def resolve_mpp(
    properties: Mapping[str, str], *, path: Path, manifest: float | None = None, command_line: float | None = None
) -> Mpp:
    """Choose the resolution of the slide at `path`: manifest, then file, then command line.

    `properties` are OpenSlide's; it derives `openslide.mpp-x/-y` of a generic TIFF from XResolution and
    ResolutionUnit (inch and centimetre). `command_line` serves the slides whose file states none; `manifest` is a row
    written for this one slide, so it may correct the file.

    Raises InputError where none is known, where x and y differ by more than 5 %, and outside 0.1-4 µm/px.
    """
    if manifest is not None:
        return _plausible(Mpp(value=manifest, origin="manifest"), path)
    across, down = _number(properties, "openslide.mpp-x"), _number(properties, "openslide.mpp-y")
    if across is not None and down is not None:
        if max(across, down) > HIGHEST_ASPECT * min(across, down):
            raise InputError(
                f"{path}: resolution differs across ({across:g} µm/px) and down ({down:g} µm/px), expected square "
                "pixels; give the true one in the slide manifest (column mpp)"
            )
        return _plausible(Mpp(value=(across + down) / 2, origin="file"), path)
    if command_line is not None:
        return _plausible(Mpp(value=command_line, origin="command line"), path)
    power = properties.get("openslide.objective-power")
    found = f"only an objective power ({power}x), which is not a resolution" if power else "no resolution"
    raise InputError(f"{path}: the file states {found}; give --mpp, or a row with mpp in the slide manifest")


def _number(properties: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(properties[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _plausible(mpp: Mpp, path: Path) -> Mpp:
    if not LOWEST_MPP <= mpp.value <= HIGHEST_MPP:
        raise InputError(
            f"{path}: implausible resolution of {mpp.value:g} µm/px from the {mpp.origin}, expected "
            f"{LOWEST_MPP:g}-{HIGHEST_MPP:g}; give the true one in the slide manifest (column mpp)"
        )
    return mpp
