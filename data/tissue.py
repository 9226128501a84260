"""Where the tissue of an H&E slide is, found on an overview at low power."""

from dataclasses import dataclass

import cv2
import numpy as np

from data.edge import find_edges, is_grey
from data.errors import InputError
from data.fold import find_folds
from data.pen import disc, find_pen, keep_large
from data.slide import Overview
from data.stain import Density, glass_colour, optical_density, sample_window

# Pale stroma begins above the first, glass ends below the second, whatever Otsu makes of the slide's darkest parts.
LOWEST_THRESHOLD = 0.06
HIGHEST_THRESHOLD = 0.12
# Dust, air bubbles and the edge of the coverslip are grey; stained tissue is not.
LOWEST_CHROMA = 0.035
# Levels per unit of the stain, which is held in 8 bits.
STAIN_LEVELS = 256
SMALLEST_TISSUE_UM2 = 8_000.0
LARGEST_HOLE_UM2 = 16_000.0
SMOOTHING_UM = 16.0
# Squares along the side of a single patch: 7 µm each, where it measures 112 µm.
PATCH_PARTS = 16
SMALLEST_TISSUE_SHARE = 0.001
# Light of the brightest 5 % of a slide; clear glass is above 200, a fluorescence background below 30.
DARK_BACKGROUND = 100.0
# Share of tissue pixels in which green is absorbed most: above 0.97 on H&E, 0.04 on a Giemsa stain.
SMALLEST_STAIN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Outline:
    """One piece of tissue as polygons in level-0 pixels."""

    exterior: np.ndarray
    """Float (N, 2) of x, y; not repeated at the end."""
    holes: tuple[np.ndarray, ...]
    """Polygons like `exterior` that are not tissue."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Tissue of one slide and what spoils it, as bool masks (H, W) of the overview."""

    tissue: np.ndarray
    """Tissue, folds included, pen marks and edges not."""
    pen: np.ndarray
    fold: np.ndarray
    edge: np.ndarray
    """Edges of the coverslip or the slide and rims of air bubbles."""
    unreadable: np.ndarray
    """The file is damaged here, so whether it is tissue is unknown."""
    scale: float
    """Level-0 pixels per mask pixel."""
    mpp: float
    """µm per mask pixel."""

    @property
    def area_mm2(self) -> float:
        """Area of the tissue in mm²."""
        return float(self.tissue.sum()) * self.mpp**2 / 1e6

    def outlines(self) -> list[Outline]:
        """Return the pieces of tissue, holes included, for a viewer or GeoJSON."""
        contours, hierarchy = cv2.findContours(self.tissue.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        if hierarchy is None:
            return []
        # Contours run through pixel centres.
        rings = [(contour[:, 0, :].astype(float) + 0.5) * self.scale for contour in contours]
        holes: dict[int, list[np.ndarray]] = {}
        for ring, (_, _, _, parent) in zip(rings, hierarchy[0], strict=True):
            if parent >= 0 and len(ring) >= 3:
                holes.setdefault(int(parent), []).append(ring)
        return [
            Outline(exterior=ring, holes=tuple(holes.get(index, ())))
            for index, (ring, (_, _, _, parent)) in enumerate(zip(rings, hierarchy[0], strict=True))
            if parent < 0 and len(ring) >= 3
        ]


def check_stain(overview: Overview, masks: TissueMask, *, name: str) -> None:
    """Raise InputError, naming the slide `name`, where it is not brightfield H&E with tissue on it.

    `masks` is what `find_tissue` found on the `overview`.
    """
    sample = sample_window(overview.unreadable.shape)
    readable = overview.pixels[sample][~overview.unreadable[sample]]
    if not len(readable):
        raise InputError(f"{name}: no part of the slide can be read; replace the file or leave it out")
    if (
        np.percentile(readable.max(axis=-1), 50) < DARK_BACKGROUND
        and np.percentile(readable[:, 1], 95) < DARK_BACKGROUND
    ):
        raise InputError(
            f"{name}: not H&E (dark background, as in fluorescence), expected a brightfield slide; leave it out, or "
            "use it all the same with --any-stain"
        )
    if masks.tissue.mean() < SMALLEST_TISSUE_SHARE and not masks.unreadable.any():
        raise InputError(
            f"{name}: no tissue found; check that the slide is H&E and its resolution right, or leave it out"
        )
    density = optical_density(overview.pixels[sample][(masks.tissue & ~masks.fold)[sample]])
    if len(density) and float((density.argmax(axis=-1) == 1).mean()) < SMALLEST_STAIN_SHARE:
        raise InputError(
            f"{name}: not H&E (the tissue is neither pink nor purple), expected haematoxylin and eosin; leave it out, "
            "or use it all the same with --any-stain"
        )


def find_tissue(overview: Overview) -> TissueMask:
    """Return the tissue on an H&E `overview`.

    Stain is measured as mean optical density plus its spread over the channels, split by Otsu's threshold (Otsu,
    IEEE Trans. SMC 1979); pen marks and edges of glass are taken out, specks removed, and small holes filled.
    """
    mpp, readable = overview.mpp, ~overview.unreadable
    pixels = cv2.medianBlur(np.ascontiguousarray(overview.pixels), 3)
    sample = sample_window(readable.shape)
    density = Density(pixels=pixels, white=glass_colour(overview.pixels[sample][readable[sample]]))
    stain, coloured, grey = _measure(density)
    pen = find_pen(density, glass=stain < LOWEST_THRESHOLD * STAIN_LEVELS, grey=grey, mpp=mpp) & readable
    edge = find_edges(grey & ~pen & readable, mpp=mpp) & ~pen & readable
    del grey
    usable = readable & ~pen & ~edge
    known = stain[sample][usable[sample]] / STAIN_LEVELS
    threshold = float(np.clip(otsu(known), LOWEST_THRESHOLD, HIGHEST_THRESHOLD)) if len(known) else 0.0
    tissue = (stain > threshold * STAIN_LEVELS) & coloured & usable
    # Whole planes are let go as soon as they are used, since a few of them take as much memory as the overview.
    del stain, coloured
    tissue = cv2.morphologyEx(tissue.view(np.uint8), cv2.MORPH_CLOSE, disc(SMOOTHING_UM / mpp)).view(bool) & usable
    # A corner that a pen mark cuts off is no speck, so pieces are measured together with the ink.
    tissue = keep_large(tissue | pen, smallest_px=SMALLEST_TISSUE_UM2 / mpp**2) & usable
    tissue = ~keep_large(~tissue, smallest_px=LARGEST_HOLE_UM2 / mpp**2) & usable
    return TissueMask(
        tissue=tissue,
        pen=pen,
        fold=find_folds(density, tissue=tissue, mpp=mpp),
        edge=edge,
        unreadable=overview.unreadable,
        scale=overview.scale,
        mpp=mpp,
    )


def tissue_share(pixels: np.ndarray) -> float:
    """Return the share of one patch, RGB uint8 (H, W, 3), that is tissue, 0-1, seen as coarsely as on an overview.

    A patch alone does not show where its slide's glass ends, so the threshold is the highest that a slide could have.
    """
    coarse = cv2.resize(pixels, (PATCH_PARTS, PATCH_PARTS), interpolation=cv2.INTER_AREA)
    stain, coloured, _ = _measure(Density(pixels=coarse, white=glass_colour(pixels)))
    return float(((stain > HIGHEST_THRESHOLD * STAIN_LEVELS) & coloured).mean())


def _measure(density: Density) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how stained each pixel is, uint8 (H, W) in steps of 1/256, and bool (H, W) whether coloured and grey."""
    shape = density.pixels.shape[:2]
    stain = np.empty(shape, dtype=np.uint8)
    coloured, grey = np.empty(shape, dtype=bool), np.empty(shape, dtype=bool)
    for rows, planes in density.bands():
        stain[rows] = np.minimum((planes.mean + planes.chroma) * STAIN_LEVELS, 255)
        coloured[rows] = planes.chroma > LOWEST_CHROMA
        grey[rows] = is_grey(planes)
    return stain, coloured, grey


def otsu(values: np.ndarray, *, highest: float = 1.0, bins: int = 256) -> float:
    """Return the threshold that splits `values` (N,) >= 0 with the least variance inside the two classes."""
    counts, edges = np.histogram(np.clip(values, 0.0, highest), bins=bins, range=(0.0, highest))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts).astype(float)
    above = below[-1] - below
    sum_below = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = sum_below / below - (sum_below[-1] - sum_below) / above
    between = np.nan_to_num(below * above * difference**2)
    return float(edges[int(between.argmax()) + 1])
