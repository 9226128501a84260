"""Small slides drawn for the tests: H&E-coloured shapes on glass in a tiled, pyramidal TIFF."""

from pathlib import Path

import numpy as np
import tifffile

GLASS = (243, 242, 244)
PINK = (222, 150, 190)
INKS = {"black": (25, 24, 28), "blue": (30, 60, 190), "green": (25, 130, 70), "red": (215, 30, 50)}


def draw_glass(*, width: int = 1600, height: int = 1200) -> np.ndarray:
    """Return RGB uint8 (height, width, 3) of empty glass."""
    return np.tile(np.array(GLASS, dtype=np.uint8), (height, width, 1))


def draw_tissue(pixels: np.ndarray, *, left: int, top: int, right: int, bottom: int, seed: int = 0) -> np.ndarray:
    """Draw a rectangle of pink tissue with purple nuclei into `pixels`, and return its truth mask, bool (H, W)."""
    rng = np.random.default_rng(seed)
    height, width = bottom - top, right - left
    area = np.tile(np.array(PINK, dtype=float), (height, width, 1))
    down, across = np.mgrid[0:height, 0:width]
    for _ in range(width * height // 400):
        y, x = rng.integers(0, height), rng.integers(0, width)
        y0, x0 = max(0, y - 6), max(0, x - 6)
        spot = (slice(y0, y + 7), slice(x0, x + 7))
        nucleus = (down[spot] - y) ** 2 + (across[spot] - x) ** 2 <= rng.integers(12, 30)
        area[spot][nucleus] = (95, 60, 140)
    area += rng.normal(0, 4, area.shape)
    pixels[top:bottom, left:right] = np.clip(area, 0, 255).astype(np.uint8)
    truth = np.zeros(pixels.shape[:2], dtype=bool)
    truth[top:bottom, left:right] = True
    return truth


def write_slide(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float | tuple[float, float] | None = 0.5,
    unit: str = "CENTIMETER",
    levels: int = 3,
) -> Path:
    """Write RGB uint8 (H, W, 3) as a pyramidal TIFF whose resolution tags state `mpp` (none where None)."""
    across, down = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    length = {"CENTIMETER": 10_000.0, "INCH": 25_400.0}[unit]
    resolution = None if across is None or down is None else (length / across, length / down)
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            step = 2**level
            height, width = (side // step * step for side in pixels.shape[:2])
            shape = (height // step, step, width // step, step, 3)
            reduced = pixels[:height, :width].reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8)
            writer.write(
                reduced,
                tile=(128, 128),
                photometric="rgb",
                compression="deflate",
                subfiletype=1 if level else 0,
                resolution=None if resolution is None else (resolution[0] / step, resolution[1] / step),
                resolutionunit=None if resolution is None else unit,
                metadata=None,
            )
    return path


def draw_fold(pixels: np.ndarray, *, left: int, top: int, right: int, bottom: int) -> None:
    """Double the optical density inside a rectangle of `pixels`, as a fold does."""
    area = pixels[top:bottom, left:right].astype(float) / GLASS
    pixels[top:bottom, left:right] = np.clip(area**2 * GLASS, 0, 255).astype(np.uint8)


def draw_pen(pixels: np.ndarray, ink: str, *, left: int, top: int, right: int, bottom: int) -> None:
    """Cover a rectangle of `pixels` with ink that lets a little of what lies under it through."""
    area = pixels[top:bottom, left:right].astype(float) / 255
    pixels[top:bottom, left:right] = (area**0.15 * np.array(INKS[ink])).astype(np.uint8)
