"""How one patient's tissue was stained and scanned."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PIGMENTS = ("haematoxylin", "eosin", "red cells", "calcium")
"""Channels of a concentration map, in this order everywhere."""

# Optical density of unit concentration in (R, G, B): means over scanned H&E sections, as stain separation finds them.
_MEAN_DENSITY = np.array(
    [[0.64, 0.70, 0.32], [0.13, 0.86, 0.42], [0.10, 0.66, 0.80], [0.64, 0.70, 0.33]],
    dtype=np.float32,
)
_DENSITY_SPREAD = np.array([0.035, 0.035, 0.02, 0.02], dtype=np.float32)


@dataclass(frozen=True)
class PatientStyle:
    """Stain and scanner of one patient; the same for every patch and slide of that patient."""

    density: NDArray[np.float32]
    """Optical density in (R, G, B) of unit concentration of each pigment, (4, 3); stain strength is part of it."""
    glass: NDArray[np.float32]
    """Transmission of empty glass in (R, G, B), (3,), in 0..1: white balance."""
    illumination: tuple[float, float]
    """Amplitude of the lamp's unevenness to the right and downwards, as a fraction; its period is 600 µm."""
    blur_um: float
    """Standard deviation of the scanner's blur in micrometres."""
    noise: float
    """Standard deviation of the sensor's noise in grey levels of 255."""
    jpeg_quality: int
    """Quality at which patches and slides are stored, 1..100."""


@dataclass(frozen=True)
class SiteStain:
    """What the stain and scanner of one laboratory add to the style of each of its patients."""

    tilt: NDArray[np.float32]
    """Added to the direction of each pigment's optical density, (4, 3)."""
    strength: NDArray[np.float32]
    """Factor of each pigment's density, (4,)."""
    glass: NDArray[np.float32]
    """Factor of the transmission of empty glass, (3,)."""


def draw_site(rng: np.random.Generator, *, shift: float) -> SiteStain:
    """Draw the stain of a laboratory; at a `shift` of 1 laboratories differ about twice as much as patients do."""
    return SiteStain(
        tilt=(rng.normal(size=(4, 3)) * 2 * shift * _DENSITY_SPREAD[:, None]).astype(np.float32),
        strength=np.exp(rng.normal(size=4) * 0.2 * shift).astype(np.float32),
        glass=np.exp(rng.normal(size=3) * 0.015 * shift).astype(np.float32),
    )


def draw_style(rng: np.random.Generator, site: SiteStain | None = None) -> PatientStyle:
    """Draw the style of a patient, of `site` where laboratories differ.

    The spread is that between laboratories with ordinary H&E: wide enough that a model has to generalise, and
    narrow enough that each finding stays legible.
    """
    direction = _MEAN_DENSITY + rng.normal(size=(4, 3)).astype(np.float32) * _DENSITY_SPREAD[:, None]
    if site is not None:
        direction = direction + site.tilt
    direction = np.clip(direction, 0.03, None)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    strength = np.array([rng.uniform(0.84, 1.22), rng.uniform(0.78, 1.25), rng.uniform(0.9, 1.1), 1.0])
    glass = rng.uniform(0.935, 0.972) + rng.normal(scale=0.007, size=3)
    if site is not None:
        strength, glass = strength * site.strength, glass * site.glass
    return PatientStyle(
        density=(direction * strength[:, None]).astype(np.float32),
        glass=glass.clip(0.9, 0.99).astype(np.float32),
        illumination=(float(rng.normal(scale=0.006)), float(rng.normal(scale=0.006))),
        blur_um=float(rng.uniform(0.15, 0.5)),
        noise=float(rng.uniform(0.8, 3.5)),
        jpeg_quality=int(rng.integers(78, 95)),
    )
