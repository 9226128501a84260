"""Tissue, pen and folds against the truth of synthetic slides."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.slide import open_slide
from data.synthetic.artefacts import FOLD, OUT_OF_FOCUS, PEN, TISSUE
from data.synthetic.slide import draw_slide, write_slide
from data.synthetic.style import draw_style
from data.taxonomy import load_taxonomy
from data.tiles import plan_tiles
from data.tissue import find_tissue

TILE_PX = 224
TRUTH_STEP = 16


@pytest.mark.parametrize("seed", [11, 12])
def test_masks_agree_with_what_was_drawn(tmp_path: Path, seed: int) -> None:
    taxonomy = load_taxonomy("neuroblastoma")
    rng = np.random.default_rng(seed)
    style = draw_style(rng)
    drawn = draw_slide(next(iter(taxonomy.classes.values())), taxonomy, style, size_px=3072, mpp=0.5, rng=rng)
    write_slide(drawn.image, tmp_path / "slide.tiff", mpp=0.5, jpeg_quality=style.jpeg_quality)

    slide = open_slide(tmp_path / "slide.tiff")
    masks = find_tissue(slide.overview())
    truth = cv2.resize(drawn.truth, masks.tissue.shape[::-1], interpolation=cv2.INTER_NEAREST)
    tissue = np.isin(truth, (TISSUE, FOLD, OUT_OF_FOCUS))
    assert (masks.tissue & tissue).sum() >= 0.9 * (masks.tissue | tissue).sum()
    assert masks.pen[truth == PEN].mean() >= 0.9
    assert masks.fold[truth == FOLD].mean() >= 0.6

    plan = plan_tiles(slide, masks, target_mpp=0.5, tile_px=TILE_PX)
    shares = {
        (tile.x, tile.y): drawn.truth[
            tile.y // TRUTH_STEP : (tile.y + TILE_PX) // TRUTH_STEP,
            tile.x // TRUTH_STEP : (tile.x + TILE_PX) // TRUTH_STEP,
        ]
        for tile in [*plan.tiles, *(tile for tile, _ in plan.rejected)]
    }
    kept = {(tile.x, tile.y) for tile in plan.tiles}
    good = {place for place, share in shares.items() if np.isin(share, (TISSUE, OUT_OF_FOCUS)).mean() > 0.6}
    good = {place for place in good if not np.isin(shares[place], (PEN, FOLD)).any()}
    inked = {place for place, share in shares.items() if (share == PEN).mean() > 0.15}
    assert len(good) > 20
    assert len(good - kept) <= 0.05 * len(good)
    assert len(inked - kept) >= 0.9 * len(inked)
