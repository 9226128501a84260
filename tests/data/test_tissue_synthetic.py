"""Tissue, pen, folds and edges against the truth of synthetic slides."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.synthetic.artefacts import EDGE, FOLD, PEN
from data.synthetic.score import score_slide
from data.synthetic.slide import draw_slide, write_slide
from data.synthetic.style import draw_style
from data.taxonomy import load_taxonomy


@pytest.mark.parametrize("seed", [11, 12])
def test_masks_agree_with_what_was_drawn(tmp_path: Path, seed: int) -> None:
    taxonomy = load_taxonomy("neuroblastoma")
    rng = np.random.default_rng(seed)
    style = draw_style(rng)
    drawn = draw_slide(next(iter(taxonomy.classes.values())), taxonomy, style, size_px=3072, mpp=0.5, rng=rng)
    write_slide(drawn.image, tmp_path / "slide.tiff", mpp=0.5, jpeg_quality=style.jpeg_quality)

    score = score_slide(drawn, tmp_path / "slide.tiff")
    assert score.tissue_iou >= 0.9
    masks = score.masks
    truth = cv2.resize(drawn.truth, masks.tissue.shape[::-1], interpolation=cv2.INTER_NEAREST)
    assert masks.pen[truth == PEN].mean() >= 0.9
    assert masks.fold[truth == FOLD].mean() >= 0.6
    assert masks.edge[truth == EDGE].mean() >= 0.9
    assert score.good_tiles > 20
    assert score.good_tiles_lost <= 0.05 * score.good_tiles
    for kind in ("pen", "edge"):
        assert score.rejected[kind].total()
        assert score.rejected[kind]["kept"] <= 0.1 * score.rejected[kind].total()
