"""How well tissue, pen marks, folds, edges and blur are found on a synthetic slide, whose truth is known."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.focus import out_of_focus, sharpness
from data.slide import open_slide
from data.synthetic.artefacts import EDGE, FOLD, OUT_OF_FOCUS, PEN, TISSUE
from data.synthetic.slide import TRUTH_STEP, DrawnSlide
from data.tiles import plan_tiles
from data.tissue import TissueMask, find_tissue

TILE_PX = 224
SMALLEST_SHARE = {"pen": (PEN, 0.15), "edge": (EDGE, 0.15), "fold": (FOLD, 0.25), "blur": (OUT_OF_FOCUS, 0.5)}
"""Value in the truth, and the share of a tile above which the tile ought to be rejected for it."""
GOOD_SHARE = 0.6
"""Tissue of a tile that ought to be kept, where nothing spoils it."""


@dataclass(frozen=True, eq=False)
class SlideScore:
    """What was found on one slide against what was drawn."""

    masks: TissueMask
    tissue_iou: float
    """Intersection over union of the tissue, folds and blur included."""
    rejected: dict[str, Counter[str]]
    """For each kind of spoilt tile, how many were rejected for which reason; "kept" counts those that were not."""
    good_tiles: int
    good_tiles_lost: int
    seconds: float
    """From opening the slide to its list of sharp tiles."""


def score_slide(drawn: DrawnSlide, path: Path) -> SlideScore:
    """Compare what is found on the slide written to `path` with the truth of `drawn`, in tiles of 224 px."""
    began = time.perf_counter()
    slide = open_slide(path)
    masks = find_tissue(slide.overview())
    plan = plan_tiles(slide, masks, target_mpp=slide.mpp.value, tile_px=TILE_PX)
    scores = [
        sharpness(slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=TILE_PX)) for tile in plan.tiles
    ]
    blurred = out_of_focus(np.array(scores, dtype=np.float32))
    seconds = time.perf_counter() - began

    reasons: dict[tuple[int, int], str] = {(tile.x, tile.y): reason for tile, reason in plan.rejected}
    reasons |= {(tile.x, tile.y): "blur" for tile, blur in zip(plan.tiles, blurred, strict=True) if blur}
    rejected: dict[str, Counter[str]] = {name: Counter() for name in SMALLEST_SHARE}
    good: list[bool] = []
    for tile in [*plan.tiles, *(tile for tile, _ in plan.rejected)]:
        reason = reasons.get((tile.x, tile.y), "kept")
        rows, columns = (slice(start // TRUTH_STEP, (start + TILE_PX) // TRUTH_STEP) for start in (tile.y, tile.x))
        truth = drawn.truth[rows, columns]
        # Squares at the lower and right border reach past the slide.
        size = (TILE_PX // TRUTH_STEP) ** 2
        share = {name: float((truth == value).sum()) / size for name, (value, _) in SMALLEST_SHARE.items()}
        for name, (_, smallest) in SMALLEST_SHARE.items():
            if share[name] > smallest:
                rejected[name][reason] += 1
        if float((truth == TISSUE).sum()) / size > GOOD_SHARE and not any(share.values()):
            good.append(reason == "kept")
    whole = cv2.resize(drawn.truth, masks.tissue.shape[::-1], interpolation=cv2.INTER_NEAREST)
    tissue = np.isin(whole, (TISSUE, FOLD, OUT_OF_FOCUS))
    return SlideScore(
        masks=masks,
        tissue_iou=float((masks.tissue & tissue).sum() / (masks.tissue | tissue).sum()),
        rejected=rejected,
        good_tiles=len(good),
        good_tiles_lost=good.count(False),
        seconds=seconds,
    )
