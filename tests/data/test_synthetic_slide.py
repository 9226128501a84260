"""Synthetic whole slides, as OpenSlide sees them."""

from pathlib import Path

import numpy as np
import openslide
import pytest

from data.synthetic.artefacts import EDGE, FOLD, GLASS, OUT_OF_FOCUS, PEN, TISSUE
from data.synthetic.slide import DrawnSlide, draw_slide, write_slide
from data.synthetic.style import draw_style
from data.taxonomy import load_taxonomy


@pytest.fixture(scope="module")
def drawn() -> DrawnSlide:
    taxonomy, rng = load_taxonomy(), np.random.default_rng(5)
    return draw_slide(taxonomy.classes["PD"], taxonomy, draw_style(rng), size_px=2048, mpp=0.5, rng=rng)


def shrunk(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[0] // 16, image.shape[1] // 16
    return image.reshape(height, 16, width, 16, 3).mean(axis=(1, 3))


def test_openslide_opens_it_with_levels_and_resolution(drawn: DrawnSlide, tmp_path: Path) -> None:
    path = tmp_path / "S001.tiff"
    write_slide(drawn.image, path, mpp=0.5, jpeg_quality=90)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((2048, 2048), (512, 512), (128, 128))
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert float(slide.properties["openslide.mpp-y"]) == 0.5
        assert slide.properties["openslide.level[0].tile-width"] == "256"
        read = np.asarray(slide.read_region((0, 0), 0, (2048, 2048)).convert("RGB"))
    assert np.abs(read.astype(int) - drawn.image).mean() < 4


def test_other_resolutions_are_stored_too(drawn: DrawnSlide, tmp_path: Path) -> None:
    path = tmp_path / "S001.tiff"
    write_slide(drawn.image[:512, :512], path, mpp=0.25, jpeg_quality=80)
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)


def test_tissue_covers_a_quarter_to_a_third_of_white_glass(drawn: DrawnSlide) -> None:
    assert 0.2 < (drawn.truth != GLASS).mean() < 0.45
    small = shrunk(drawn.image.astype(float))
    # The scanner's edge pixels mix glass and tissue, hence medians.
    assert np.median(small[drawn.truth == GLASS]) > 225
    assert np.median(small[drawn.truth == TISSUE][:, 1]) < 190


def test_every_artefact_is_there_and_does_what_its_name_says(drawn: DrawnSlide) -> None:
    assert {GLASS, TISSUE, PEN, FOLD, OUT_OF_FOCUS, EDGE} == set(np.unique(drawn.truth))
    grey = drawn.image.astype(float).mean(axis=-1)
    small = shrunk(drawn.image.astype(float)).mean(axis=-1)
    assert small[drawn.truth == FOLD].mean() < small[drawn.truth == TISSUE].mean() - 15
    assert small[drawn.truth == PEN].mean() < 160
    detail = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])).reshape(128, 16, 128, 16).mean(axis=(1, 3))
    assert detail[drawn.truth == OUT_OF_FOCUS].mean() < 0.5 * detail[drawn.truth == TISSUE].mean()


def test_the_edge_is_grey_darker_than_glass_and_runs_straight_along_one_side(drawn: DrawnSlide) -> None:
    edge = drawn.truth == EDGE
    pixels = shrunk(drawn.image.astype(float))[edge]
    assert np.median(pixels.max(axis=-1)) < 0.8 * np.median(shrunk(drawn.image.astype(float))[drawn.truth == GLASS])
    assert np.median(np.ptp(pixels, axis=-1)) < 12
    # Turned so that it lies on the left.
    turned = next(view for view in (np.rot90(edge, turns) for turns in range(4)) if view[:, :26].any(axis=1).all())
    innermost = turned.shape[1] - 1 - turned[:, ::-1].argmax(axis=1)
    rows = np.arange(len(turned))
    assert np.abs(innermost - np.polyval(np.polyfit(rows, innermost, 1), rows)).max() < 2


def test_blocks_meet_without_a_seam(drawn: DrawnSlide) -> None:
    # The slide is drawn in blocks of 448 px; a seam would show as a jump between the columns on both sides.
    jumps = np.abs(np.diff(drawn.image.astype(float).mean(axis=-1), axis=1)).mean(axis=0)
    borders = jumps[[447, 895, 1343, 1791]]
    assert borders.max() < 1.6 * np.median(jumps) + 1
