"""Tissue, pen marks, folds and stain of a slide."""

from pathlib import Path

import numpy as np
import pytest
from drawn_slide import INKS, draw_fold, draw_glass, draw_pen, draw_tissue, write_slide

from data.errors import InputError
from data.image import read_image
from data.slide import Overview, open_slide
from data.tissue import check_stain, find_tissue, otsu, tissue_share

SCALE = 16


def overview_of(pixels: np.ndarray) -> Overview:
    """Overview at 8 µm/px of a slide drawn at 0.5 µm/px."""
    height, width = (side // SCALE for side in pixels.shape[:2])
    shape = (height, SCALE, width, SCALE, 3)
    reduced = pixels[: height * SCALE, : width * SCALE].reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8)
    return Overview(pixels=reduced, scale=SCALE, mpp=8.0, unreadable=np.zeros((height, width), dtype=bool))


def reduced(mask: np.ndarray) -> np.ndarray:
    return mask[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    pixels = draw_glass(width=4096, height=3072)
    truth = draw_tissue(pixels, left=400, top=400, right=3600, bottom=2600)
    return pixels, truth


@pytest.fixture
def scene(drawn: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    pixels, truth = drawn
    return pixels.copy(), truth.copy()


def test_tissue_is_found_on_glass(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, truth = scene
    masks = find_tissue(overview_of(pixels))
    assert overlap(masks.tissue, reduced(truth)) > 0.97
    assert not masks.pen.any()
    assert not masks.fold.any()
    assert masks.area_mm2 == pytest.approx(1.6 * 1.1, rel=0.03)


def test_tissue_that_fills_the_slide_leaves_no_glass() -> None:
    pixels = draw_glass()
    draw_tissue(pixels, left=0, top=0, right=1600, bottom=1200)
    assert find_tissue(overview_of(pixels)).tissue.all()


def test_specks_and_grey_dirt_are_removed_and_small_holes_filled(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, truth = scene
    draw_tissue(pixels, left=100, top=100, right=250, bottom=250)
    pixels[2750:3000, 1000:2500] = (170, 170, 171)
    pixels[1000:1200, 1000:1200] = 243
    pixels[1500:2300, 2000:2800] = 243
    truth[1500:2300, 2000:2800] = False
    assert overlap(find_tissue(overview_of(pixels)).tissue, reduced(truth)) > 0.97


@pytest.mark.parametrize("ink", sorted(INKS))
def test_pen_of_every_usual_colour_is_found_on_glass_and_on_tissue(
    scene: tuple[np.ndarray, np.ndarray], ink: str
) -> None:
    pixels, truth = scene
    draw_pen(pixels, ink, left=0, top=800, right=1000, bottom=1100)
    inked = np.zeros_like(truth)
    inked[800:1100, :1000] = True
    masks = find_tissue(overview_of(pixels))
    assert (masks.pen & reduced(inked)).sum() > 0.95 * reduced(inked).sum()
    assert overlap(masks.tissue, reduced(truth & ~inked)) > 0.93


def test_blood_inside_the_tissue_is_not_taken_for_red_pen(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, truth = scene
    draw_pen(pixels, "red", left=1500, top=1200, right=2100, bottom=1700)
    masks = find_tissue(overview_of(pixels))
    assert not masks.pen.any()
    assert overlap(masks.tissue, reduced(truth)) > 0.97


def test_a_fold_is_found_and_a_darker_region_of_other_hue_is_not(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, truth = scene
    draw_fold(pixels, left=800, top=700, right=2400, bottom=860)
    # A band of dense nuclei, as epithelium has.
    pixels[1800:1960, 800:2400] = (pixels[1800:1960, 800:2400] * np.array([0.5, 0.55, 0.8])).astype(np.uint8)
    folded = np.zeros_like(truth)
    folded[700:860, 800:2400] = True
    masks = find_tissue(overview_of(pixels))
    assert overlap(masks.fold, reduced(folded)) > 0.6
    assert not masks.fold[110:].any()


def test_outlines_are_level_0_polygons_with_holes(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, _ = scene
    pixels[1500:2300, 2000:2800] = 243
    (outline,) = find_tissue(overview_of(pixels)).outlines()
    assert len(outline.holes) == 1
    np.testing.assert_allclose(outline.exterior.min(axis=0), [400, 400], atol=2 * SCALE)
    np.testing.assert_allclose(outline.exterior.max(axis=0), [3600, 2600], atol=2 * SCALE)
    np.testing.assert_allclose(outline.holes[0].min(axis=0), [2000, 1500], atol=2 * SCALE)


@pytest.mark.parametrize("side", [1, 2, 5, 30])
def test_an_overview_of_a_few_pixels_is_judged_without_failing(side: int) -> None:
    pixels = np.full((side, side, 3), (200, 120, 170), dtype=np.uint8)
    masks = find_tissue(Overview(pixels=pixels, scale=8.0, mpp=4.0, unreadable=np.zeros((side, side), dtype=bool)))
    assert masks.tissue.shape == (side, side)


def test_a_slide_of_which_nothing_can_be_read_is_refused() -> None:
    overview = Overview(
        pixels=np.full((40, 40, 3), 255, np.uint8), scale=8.0, mpp=4.0, unreadable=np.ones((40, 40), dtype=bool)
    )
    with pytest.raises(InputError, match=r"case\.svs: no part of the slide can be read"):
        check_stain(overview, find_tissue(overview), name="case.svs")


def test_otsu_separates_two_groups() -> None:
    values = np.concatenate([np.full(900, 0.05), np.full(100, 0.6)])
    assert 0.05 < otsu(values) < 0.6


def check(pixels: np.ndarray) -> None:
    overview = overview_of(pixels)
    check_stain(overview, find_tissue(overview), name="case.svs")


def test_empty_glass_is_refused() -> None:
    with pytest.raises(InputError, match=r"case\.svs: no tissue found"):
        check(draw_glass())


def test_a_dark_background_is_refused_as_fluorescence() -> None:
    dark = np.zeros((2048, 2048, 3), dtype=np.uint8)
    dark[500:900, 500:900, 2] = 255
    with pytest.raises(InputError, match=r"case\.svs: not H&E \(dark background"):
        check(dark)


def test_another_stain_is_refused(scene: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, truth = scene
    check(pixels)
    pixels[truth] = (150, 105, 70)
    with pytest.raises(InputError, match=r"case\.svs: not H&E \(the tissue is neither pink nor purple"):
        check(pixels)


def test_the_real_fluorescence_slide_is_refused_and_the_real_stained_ones_are_not(real_data: Path) -> None:
    fluorescence = open_slide(real_data / "slides" / "negative" / "fluorescence-DAPI.ndpi").overview()
    with pytest.raises(InputError, match="dark background"):
        check_stain(fluorescence, find_tissue(fluorescence), name="fluorescence-DAPI.ndpi")
    expected_mm2 = {"CMU-1-Small-Region.svs": 0.65, "TCGA-CR-7395-01A-01-TS1.svs": 10.0, "C3L-00601-26.tiff": 35.5}
    for name, mpp in (
        ("CMU-1-Small-Region.svs", 0.5),
        ("TCGA-CR-7395-01A-01-TS1.svs", 1.0),
        ("C3L-00601-26.tiff", 2.0),
    ):
        overview = open_slide(real_data / "slides" / name, manifest_mpp=mpp).overview()
        masks = find_tissue(overview)
        check_stain(overview, masks, name=name)
        # Areas of the masks when they were looked at and found right.
        assert masks.area_mm2 == pytest.approx(expected_mm2[name], rel=0.1)
        assert not masks.pen.any()
        assert masks.fold.sum() < 0.05 * masks.tissue.sum()


def test_real_patches_are_recognised_as_stained_with_haematoxylin_and_eosin(real_data: Path) -> None:
    for path in sorted((real_data / "osteosarcoma").glob("*Viable*.jpg"))[::5]:
        overview = overview_of(np.concatenate([read_image(path), np.full((256, 1024, 3), 243, np.uint8)]))
        masks = find_tissue(overview)
        check_stain(overview, masks, name=path.name)
        assert masks.pen.mean() < 0.02


def test_an_overview_of_a_drawn_slide_gives_the_drawn_tissue(tmp_path: Path) -> None:
    pixels = draw_glass()
    truth = draw_tissue(pixels, left=300, top=200, right=1300, bottom=1000)
    overview = open_slide(write_slide(tmp_path / "slide.tiff", pixels)).overview(mpp=8.0)
    assert overlap(find_tissue(overview).tissue, reduced(truth)) > 0.94


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_tissue_of_a_single_patch_is_its_share_of_the_square(share: float) -> None:
    pixels = draw_glass(width=256, height=256)
    if share:
        draw_tissue(pixels, left=0, top=0, right=round(256 * share), bottom=256)
    assert tissue_share(pixels) == pytest.approx(share, abs=0.05)
