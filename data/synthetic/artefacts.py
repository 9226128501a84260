"""What goes wrong on a slide: a fold, a pen mark, an area out of focus and an edge of the glass."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic.style import PatientStyle
from data.synthetic.texture import smooth_noise

GLASS, TISSUE, PEN, FOLD, OUT_OF_FOCUS, EDGE = range(6)
"""Values of a slide's truth mask."""

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_INKS = {
    "black": (0.10, 0.10, 0.13),
    "blue": (0.13, 0.22, 0.66),
    "green": (0.10, 0.47, 0.27),
    "red": (0.72, 0.10, 0.15),
}


def add_fold(image: Image, tissue: Mask, style: PatientStyle, *, mpp: float, rng: np.random.Generator) -> Mask:
    """Fold tissue over along a gentle curve, in place; returns where.

    Args:
        image: RGB (H, W, 3).
        tissue: Tissue (H / 16, W / 16).
        style: Gives the colour of glass.
        mpp: Micrometres per pixel.
        rng: Source of every draw.

    Returns:
        The band (H / 16, W / 16), tissue only.
    """
    centre = _pick(cv2.erode(tissue.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0, tissue, rng)
    length, half_width = rng.uniform(280, 460) / mpp, rng.uniform(12, 19) / mpp
    path, angle = _curve(centre, length, rng)
    band = _stroke(image.shape[:2], path, half_width)
    window = _window(band > 0)
    if window is None:
        return np.zeros_like(tissue)
    # The flap is the neighbouring tissue, laid on top: light passes both layers.
    over = rng.choice([-1, 1]) * 2.2 * half_width
    down, right = int(over * np.cos(angle)), int(-over * np.sin(angle))
    rows = np.arange(window[0].start - down, window[0].stop - down).clip(0, image.shape[0] - 1)
    columns = np.arange(window[1].start - right, window[1].stop - right).clip(0, image.shape[1] - 1)
    flap = image[rows[:, None], columns]
    glass = 255 * style.glass
    through = image[window] * np.minimum(flap / glass, 1.0)
    share = band[window][..., None] / np.float32(255)
    large = cv2.resize(tissue.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)[window]
    share = share * large[..., None]
    mixed = image[window] * (1 - share) + (0.80 * through) * share
    image[window] = mixed.astype(np.uint8)
    return _shrink(band, tissue.shape) & tissue


def add_out_of_focus(image: Image, tissue: Mask, *, mpp: float, rng: np.random.Generator) -> Mask:
    """Blur a round area of tissue, in place; returns where (H / 16, W / 16)."""
    x, y = _pick(tissue, tissue, rng)
    radius = rng.uniform(170, 240) / mpp
    height, width = image.shape[:2]
    window = (
        slice(max(0, int(y - radius)), min(height, int(y + radius))),
        slice(max(0, int(x - radius)), min(width, int(x + radius))),
    )
    rows, columns = np.indices((window[0].stop - window[0].start, window[1].stop - window[1].start), dtype=np.float32)
    away = np.hypot(columns + window[1].start - x, rows + window[0].start - y) / radius
    away *= 1 + 0.12 * np.sin(
        3 * np.arctan2(rows + window[0].start - y, columns + window[1].start - x) + rng.uniform(0, 6.3)
    )
    share = np.clip((1 - away) / 0.3, 0, 1)[..., None]
    blurred = cv2.GaussianBlur(image[window], (0, 0), rng.uniform(2.2, 3.2) / mpp)
    image[window] = (image[window] * (1 - share) + blurred * share).astype(np.uint8)
    area = np.zeros((height, width), dtype=np.uint8)
    area[window] = (share[..., 0] > 0.5).astype(np.uint8) * 255
    return _shrink(area, tissue.shape) & tissue


def add_pen(image: Image, tissue: Mask, *, mpp: float, rng: np.random.Generator) -> Mask:
    """Draw a pen mark on the glass, over the edge of the tissue, in place; returns where (H / 16, W / 16)."""
    small = tissue.astype(np.uint8)
    edge = (cv2.dilate(small, np.ones((9, 9), np.uint8)) > 0) & ~tissue
    path, _ = _curve(_pick(edge, edge, rng), rng.uniform(450, 900) / mpp, rng)
    band = _stroke(image.shape[:2], path, rng.uniform(28, 48) / mpp)
    window = _window(band > 0)
    if window is None:
        return np.zeros_like(tissue)
    ink = np.array(_INKS[str(rng.choice(list(_INKS)))], dtype=np.float32)
    height, width = band[window].shape
    streaks = cv2.resize(rng.uniform(0.82, 1.0, size=(max(2, height // 60), max(2, width // 60))), (width, height))
    share = band[window] / np.float32(255) * streaks
    image[window] = (image[window] * (1 - share[..., None] * (1 - ink))).astype(np.uint8)
    return _shrink(band, tissue.shape)


def add_edge(
    image: Image, shape: tuple[int, int], style: PatientStyle, *, mpp: float, rng: np.random.Generator
) -> Mask:
    """Draw the straight edge of the coverslip or of the slide near one side, in place.

    The coverslip's is a dark line with a bright fringe of refraction inside and a shadow outside, over whatever tissue
    it crosses; beyond the slide's edge lies nothing but dull grey.

    Args:
        image: RGB (H, W, 3).
        shape: Rows and columns of the mask, (H / 16, W / 16).
        style: Gives the colour of glass.
        mpp: Micrometres per pixel.
        rng: Source of every draw.

    Returns:
        Where at least a fifth of the light is lost, of `shape`.
    """
    # A turned view, so that the edge always lies near its left side.
    turns = int(rng.integers(4))
    view = np.rot90(image, turns)
    height, width = view.shape[:2]
    inset, tilt = rng.uniform(0.03, 0.10) * width, rng.uniform(-0.02, 0.02)
    of_slide = rng.random() < 0.5
    depth, thickness = rng.uniform(0.3, 0.5), rng.uniform(18, 34)
    shadow, reach, veil = rng.uniform(0.2, 0.32), rng.uniform(50, 120), rng.uniform(0.01, 0.04)
    dullness = rng.uniform(0.22, 0.42)
    rows = np.arange(height, dtype=np.float32)
    along = smooth_noise(rng, (height, 1), 160 / mpp)[:, 0]
    line = inset + tilt * (rows - height / 2) + 2 / mpp * along
    window = slice(0, min(width, int(line.max() + 100 / mpp) + 1))
    # Micrometres outwards from the line, (height, window).
    out = (line[:, None] - np.arange(window.stop, dtype=np.float32)) * mpp
    uneven = 1 + 0.12 * np.clip(along, -2, 2)[:, None]
    lost = np.zeros(view[:, window].shape, dtype=np.float32)
    for channel, shift in enumerate((-1.5, 0.0, 1.5)):
        # Glass refracts blue more than red, which tints the fringes.
        away = out + np.float32(shift)
        density = depth * uneven * np.exp(-((away / thickness) ** 2)) - 0.02 * np.exp(-(((away + 38) / 7) ** 2))
        beyond = dullness if of_slide else veil + shadow * uneven * np.exp(-np.maximum(away, 0) / reach)
        lost[..., channel] = np.maximum(density, beyond * np.clip(away / 6 + 0.5, 0, 1))
    light = 10**-lost
    under = view[:, window].astype(np.float32)
    if of_slide:
        past = np.clip(out / 6 + 0.5, 0, 1)[..., None]
        under += past * (
            255 * style.glass + style.noise * rng.standard_normal((*out.shape, 1), dtype=np.float32) - under
        )
    view[:, window] = np.clip(np.rint(under * light), 0, 255)
    dark = np.zeros((height, width), dtype=np.uint8)
    dark[:, window] = np.where(light.mean(axis=-1) < 0.8, 255, 0)
    return _shrink(np.ascontiguousarray(np.rot90(dark, -turns)), shape)


def _pick(preferred: Mask, otherwise: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """A random place (x, y) in level-0 pixels inside a mask at 1/16."""
    places = np.argwhere(preferred if preferred.any() else otherwise)
    if not len(places):
        return otherwise.shape[1] * 8.0, otherwise.shape[0] * 8.0
    row, column = places[int(rng.integers(len(places)))]
    return float(column) * 16 + 8, float(row) * 16 + 8


def _curve(centre: tuple[float, float], length: float, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """A gently bent line (n, 2) of `length` through `centre`, and its direction."""
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.16, 0.16)
    t = np.linspace(-1, 1, 40)
    along, across = t * length / 2, bend * length * (t**2 - 0.3) + 0.02 * length * np.sin(4 * t + rng.uniform(0, 6.3))
    x = centre[0] + along * np.cos(angle) - across * np.sin(angle)
    y = centre[1] + along * np.sin(angle) + across * np.cos(angle)
    return np.stack([x, y], axis=1), float(angle)


def _stroke(shape: tuple[int, int], path: NDArray[np.float64], half_width: float) -> Image:
    """A soft-edged line as shares of 255."""
    band = np.zeros(shape, dtype=np.uint8)
    cv2.polylines(
        band, [path.astype(np.int32)], False, 255, thickness=max(2, round(2 * half_width)), lineType=cv2.LINE_AA
    )
    sigma = max(1.0, half_width * 0.12)
    window = _window(band > 0, margin=int(4 * sigma))
    if window is not None:
        band[window] = cv2.GaussianBlur(band[window], (0, 0), sigma)
    return band


def _window(mask: Mask, margin: int = 0) -> tuple[slice, slice] | None:
    """The bounding rows and columns of a mask with a margin, or None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(0, int(rows[0]) - margin), min(mask.shape[0], int(rows[-1]) + 1 + margin)),
        slice(max(0, int(columns[0]) - margin), min(mask.shape[1], int(columns[-1]) + 1 + margin)),
    )


def _shrink(band: Image, shape: tuple[int, int]) -> Mask:
    return np.asarray(cv2.resize(band, shape[::-1], interpolation=cv2.INTER_AREA)) > 127
