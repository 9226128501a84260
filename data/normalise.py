"""Stain normalisation: the colours of one slide's stain mapped to those of a reference, one map for the whole slide."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import cv2
import numpy as np

from data.atomic import digest
from data.errors import InputError
from data.image import read_image

Method = Literal["macenko", "reinhard"]

# Intensity of clear glass and least optical density of stain, as torchstain and Macenko 2009 have them.
GLASS = 240.0
LEAST_DENSITY = 0.15
# Natural logarithm of an intensity.
BEYOND_WHITE = 6.0
# In pixels; means and percentiles of more are the same, and cost memory.
LARGEST_SAMPLE = 2_000_000
SMALLEST_STAINED_SHARE = 0.01
SMALLEST_STAINED = 100
# In degrees. H&E patches lie 13-28 from grey and have stains 6-44 apart; grey noise lies below 1 from grey.
SMALLEST_HUE = 5.0
SMALLEST_STAIN_ANGLE = 2.0
# Of L, a and b.
SMALLEST_DEVIATION = 0.5


@dataclass(frozen=True)
class Stain:
    """How one slide, or the reference, is stained."""

    method: Method
    parameters: tuple[tuple[float, ...], ...]
    """Macenko: optical density of red, green, blue per unit of haematoxylin, the same of eosin, and the highest
    concentration (99th percentile) of both. Reinhard: mean and standard deviation of L, a, b (CIELAB)."""
    source: str
    """Where it was estimated; of an image, its name and the digest of its content."""


def reference_stain(method: Method, image: Path | None = None) -> Stain:
    """Return the stain that slides are normalised to: that of `image`, or torchstain's own for Macenko without one.

    Raises InputError where torchstain is absent, Reinhard is given no image, or the image has too little stain.
    """
    if image is not None:
        fitted = fit_stain(method, read_image(image)[None], source=str(image))
        return replace(fitted, source=f"{image.name} ({digest(image.read_bytes())})")
    if method == "reinhard":
        raise InputError("Reinhard normalisation: no reference image, expected one; give an H&E patch, or use Macenko")
    usual = _torchstain().normalizers.MacenkoNormalizer(backend="numpy")
    return Stain(method=method, parameters=_numbers([*usual.HERef.T, usual.maxCRef]), source="torchstain default")


def fit_stain(method: Method, pixels: np.ndarray, *, source: str = "tissue of the slide") -> Stain:
    """Estimate the stain of a slide from RGB uint8 `pixels` (N, H, W, 3) of its tissue, through torchstain.

    Macenko et al., ISBI 2009; Reinhard et al., IEEE CG&A 2001. Of a large sample, evenly spaced pixels are used.
    Raises InputError, naming `source`, where too little of it is stained to tell; or where torchstain is absent.
    """
    torchstain = _torchstain()
    flat = np.ascontiguousarray(pixels).reshape(-1, 3)
    # Odd, so that it does not fall into step with the rows of the tiles.
    sample = flat[:: max(1, len(flat) // LARGEST_SAMPLE) | 1]
    _check_stained(sample, method=method, source=source)
    if method == "macenko":
        fitted = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
        fitted.fit(sample[None], Io=GLASS, beta=LEAST_DENSITY)
        parameters = _numbers([*fitted.HERef.T, fitted.maxCRef])
        haematoxylin, eosin, highest = np.array(parameters[0]), np.array(parameters[1]), parameters[2]
        angle = np.degrees(np.arccos(np.clip(haematoxylin @ eosin, -1, 1)))
        usable = angle >= SMALLEST_STAIN_ANGLE and min(highest) > 0
    else:
        fitted = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
        fitted.fit(sample[None])
        parameters = _numbers([fitted.target_means, fitted.target_stds])
        usable = min(parameters[1]) > SMALLEST_DEVIATION
    if not usable:
        raise InputError(
            f"{source}: one colour only, expected haematoxylin and eosin; leave it out or do not normalise"
        )
    return Stain(method=method, parameters=parameters, source=source)


def normalise(pixels: np.ndarray, *, slide: Stain, reference: Stain) -> np.ndarray:
    """Map RGB uint8 `pixels` (N, H, W, 3) or (H, W, 3) from the stain of the `slide` to that of the `reference`.

    The map depends on the colour alone, so tiles of one slide stay comparable. Needs no torchstain.
    """
    if slide.method != reference.method:
        raise ValueError(f"slide stained by {slide.method}, reference by {reference.method}")
    tiles = np.ascontiguousarray(pixels).reshape(-1, *pixels.shape[-3:])
    result = np.empty_like(tiles)
    matrix = _macenko_matrix(slide, reference) if slide.method == "macenko" else _reinhard_matrix(slide, reference)
    # Tile by tile, so that the floating-point copies stay in the processor's cache.
    for tile, out in zip(tiles, result, strict=True):
        out[:] = _by_density(tile, matrix) if slide.method == "macenko" else _by_lab(tile, matrix)
    return result.reshape(pixels.shape)


def _macenko_matrix(slide: Stain, reference: Stain) -> np.ndarray:
    """Return the (3, 3) matrix from optical densities of the slide to those of the reference.

    Densities are split into concentrations of the slide's stains, these scaled so that the highest agree, and the
    reference's stains added up again.
    """
    *stains, highest = slide.parameters
    *wanted, wanted_highest = reference.parameters
    scale = np.diag(np.divide(wanted_highest, highest))
    return np.asarray(wanted).T @ scale @ np.linalg.pinv(np.asarray(stains).T)


def _by_density(tile: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    # torchstain counts intensities from 1, so that black has a density; the count is taken back at the end.
    table = -np.log((np.arange(256, dtype=np.float32) + 1) / np.float32(GLASS))
    exponent = cv2.transform(cv2.LUT(tile, table), np.column_stack([-matrix, np.full(3, np.log(GLASS))]))
    # Black and white are the ends: ink, which is no mixture of the stains, may leave the range of floats.
    return cv2.convertScaleAbs(cv2.exp(np.clip(exponent, 0, BEYOND_WHITE, out=exponent)), alpha=1, beta=-1)


def _reinhard_matrix(slide: Stain, reference: Stain) -> np.ndarray:
    """Return the (3, 4) affine map from L, a, b of the slide to those of the reference."""
    (means, deviations), (wanted_means, wanted_deviations) = slide.parameters, reference.parameters
    scale = np.divide(wanted_deviations, deviations)
    return np.column_stack([np.diag(scale), wanted_means - scale * means])


def _by_lab(tile: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(tile.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return cv2.convertScaleAbs(cv2.cvtColor(cv2.transform(lab, matrix), cv2.COLOR_Lab2RGB), alpha=255)


def _check_stained(sample: np.ndarray, *, method: Method, source: str) -> None:
    """Raise InputError where RGB `sample` (N, 3) is mostly glass, or as grey as glass."""
    density = -np.log((sample.astype(np.float32) + 1) / GLASS)
    # Macenko's estimate leaves out what lets one channel through, such as pale eosin.
    reaching = np.all if method == "macenko" else np.any
    stained = density[reaching(density >= LEAST_DENSITY, axis=1)]
    if len(stained) < max(SMALLEST_STAINED, SMALLEST_STAINED_SHARE * len(sample)):
        raise InputError(
            f"{source}: only {len(stained)} of {len(sample)} pixels are stained, too few to estimate the stain; "
            "leave it out or do not normalise"
        )
    mean = stained.mean(axis=0)
    hue = np.degrees(np.arccos(np.clip(mean.sum() / np.linalg.norm(mean) / np.sqrt(3), -1, 1)))
    if hue < SMALLEST_HUE:
        raise InputError(f"{source}: grey, expected the colours of H&E; leave it out or do not normalise")


def _torchstain() -> ModuleType:
    try:
        import torchstain
    except ImportError as error:
        raise InputError(
            "stain normalisation needs the package torchstain, which is absent; pip install 'mmlnb[stain]'"
        ) from error
    module: ModuleType = torchstain
    return module


def _numbers(rows: Sequence[np.ndarray]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)
