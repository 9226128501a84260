"""Small slides with real tissue: a square cut out of the real slide, written as a tiled TIFF."""

from pathlib import Path

import numpy as np
import openslide
import tifffile

CMU = "CMU-1-Small-Region.svs"


def cut_slide(real_data: Path, path: Path, *, side: int = 960, mpp: float | None = 0.5) -> Path:
    """Write `side` px squared of the real slide to `path`, stating `mpp` µm/px (nothing where None).

    At 0.5 µm/px and 960 px it has 14 usable tiles of 224 px.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with openslide.OpenSlide(real_data / "slides" / CMU) as slide:
        pixels = np.asarray(slide.read_region((1000, 1500), 0, (side, side)).convert("RGB"))
    tifffile.imwrite(
        path,
        pixels,
        tile=(128, 128),
        photometric="rgb",
        compression="deflate",
        resolution=None if mpp is None else (10_000 / mpp, 10_000 / mpp),
        resolutionunit=None if mpp is None else "CENTIMETER",
        metadata=None,
    )
    return path


def cut_two_slides(real_data: Path, folder: Path) -> Path:
    """Write the slides a.tiff and b.tiff, of 14 and fewer tiles, into `folder` and return it."""
    cut_slide(real_data, folder / "a.tiff")
    cut_slide(real_data, folder / "b.tiff", side=800)
    return folder
