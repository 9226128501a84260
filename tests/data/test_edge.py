"""Edges of the coverslip and the slide."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_slide import INKS, draw_glass, draw_tissue

from data.image import read_image
from data.slide import Overview, open_slide
from data.tissue import TissueMask, find_tissue

SCALE = 16


def masks_of(pixels: np.ndarray) -> TissueMask:
    """Masks of a slide drawn at 0.5 µm/px, from its overview at 8 µm/px."""
    small = cv2.resize(pixels, (pixels.shape[1] // SCALE, pixels.shape[0] // SCALE), interpolation=cv2.INTER_AREA)
    nothing = np.zeros(small.shape[:2], dtype=bool)
    return find_tissue(Overview(pixels=small, scale=SCALE, mpp=8.0, unreadable=nothing))


def reduced(mask: np.ndarray) -> np.ndarray:
    return mask[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]


def shade(pixels: np.ndarray, share: float) -> None:
    """Let only `share` of the light through."""
    pixels[...] = (pixels * share).astype(np.uint8)


@pytest.fixture
def scene() -> np.ndarray:
    """Tissue that lies 450 µm from the left and right sides and reaches the top."""
    pixels = draw_glass(width=3200, height=3200)
    draw_tissue(pixels, left=900, top=0, right=2300, bottom=1600)
    return pixels


@pytest.mark.parametrize("place", [np.s_[:, :160], np.s_[:, -160:], np.s_[-160:, :]])
def test_a_dull_grey_border_is_an_edge_and_neither_tissue_nor_pen(
    scene: np.ndarray, place: tuple[slice, slice]
) -> None:
    clean = masks_of(scene)
    shade(scene[place], 0.5)
    drawn = np.zeros(scene.shape[:2], dtype=bool)
    drawn[place] = True
    masks = masks_of(scene)
    assert masks.edge[reduced(drawn)].mean() > 0.95
    assert (masks.edge & ~reduced(drawn)).sum() < 0.3 * masks.edge.sum()
    assert not masks.pen.any()
    np.testing.assert_array_equal(masks.tissue, clean.tissue)
    assert not clean.edge.any()


def test_a_straight_edge_is_followed_under_the_tissue_it_crosses(scene: np.ndarray) -> None:
    shade(scene[:, 1000:1100], 0.55)
    masks = masks_of(scene)
    assert masks.edge[5:95, 64:68].all()
    assert masks.tissue[5:95, 75:140].all()


def test_a_short_grey_bar_does_not_reach_into_the_tissue_beyond_it(scene: np.ndarray) -> None:
    shade(scene[1800:2600, 1000:1100], 0.55)
    masks = masks_of(scene)
    assert masks.edge[115:160, 64:68].all()
    assert not masks.edge[:100].any()


def test_the_rim_of_an_air_bubble_is_an_edge(scene: np.ndarray) -> None:
    cv2.circle(scene, (1500, 2500), 400, (130, 131, 133), thickness=80)
    masks = masks_of(scene)
    assert masks.edge[2500 // SCALE, (1500 - 400) // SCALE]
    assert not masks.edge[2500 // SCALE, 1500 // SCALE]
    assert not masks.tissue[105:].any()


def test_black_ink_is_pen_where_a_grey_edge_touches_it_too(scene: np.ndarray) -> None:
    shade(scene[:, :160], 0.5)
    scene[2000:2200, 100:2000] = INKS["black"]
    masks = masks_of(scene)
    assert masks.pen[125:137, 6:124].all()
    assert masks.edge[20:110, :9].all()
    assert not masks.edge[125:137, 20:].any()


def test_the_darkest_part_of_an_edge_is_not_taken_for_ink(scene: np.ndarray) -> None:
    shade(scene[:, :320], 0.5)
    shade(scene[:, 100:180], 0.45)
    masks = masks_of(scene)
    assert not masks.pen.any()
    assert masks.edge[:, 1:18].all()


def test_dust_and_pale_shadows_are_not_edges(scene: np.ndarray) -> None:
    scene[2500:2700, 2500:2700] = (120, 120, 121)
    shade(scene[:, :400], 0.9)
    assert not masks_of(scene).edge.any()


def test_real_tissue_has_no_edges(real_data: Path) -> None:
    for name, mpp in (
        ("CMU-1-Small-Region.svs", None),
        ("TCGA-CR-7395-01A-01-TS1.svs", 1.0),
        ("C3L-00601-26.tiff", 2.0),
    ):
        assert not find_tissue(open_slide(real_data / "slides" / name, command_line_mpp=mpp).overview()).edge.any()
    for path in sorted((real_data / "osteosarcoma").glob("*.jpg")):
        # 10x, so about 1 µm/px.
        small = cv2.resize(read_image(path), (256, 256), interpolation=cv2.INTER_AREA)
        nothing = np.zeros((256, 256), dtype=bool)
        assert not find_tissue(Overview(pixels=small, scale=4.0, mpp=4.0, unreadable=nothing)).edge.any()
