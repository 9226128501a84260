"""What a page shows is escaped, marked and chosen as it should be."""

import numpy as np
import pytest

from data.taxonomy import load_taxonomy
from mmlnb.call_uncertainty import block_of, call_intervals
from mmlnb.findings_profile import findings_profile, read_stated
from mmlnb.pages.highlight import highlight
from mmlnb.pages.slide_page import telling_patches
from mmlnb.palette import class_colours

TAXONOMY = load_taxonomy()


def test_findings_are_marked_and_everything_else_is_escaped() -> None:
    marked = highlight("<script>No rosettes</script> & scant neuropil", TAXONOMY)
    assert "<script>" not in marked
    assert "&lt;script&gt;" in marked
    assert '<mark class="denied" title="Homer Wright pseudorosettes: absent">rosettes</mark>' in marked
    assert '<mark title="Neuropil: scant">neuropil</mark>' in marked


def test_a_text_without_findings_is_left_as_it_is() -> None:
    assert highlight("plain words", TAXONOMY) == "plain words"


def test_the_profile_counts_over_the_described_patches_only() -> None:
    stated = read_stated(["No neuropil.", None, "Scant neuropil.", "Nothing."], TAXONOMY)
    profile = {finding.title: finding for finding in findings_profile(stated, TAXONOMY)}
    neuropil = profile["Neuropil"]
    assert neuropil.values == {"absent": 1 / 3, "scant": 1 / 3, "abundant": 0.0}
    assert (neuropil.patches["scant"], neuropil.unstated, neuropil.described) == ((2,), (3,), 3)
    assert findings_profile([None], TAXONOMY) == []


def test_telling_patches_are_the_surest_with_most_tissue() -> None:
    probability = np.array([0.9, 0.95, 0.2, 0.6, 0.4, 0.99])
    tissue = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    supporting, opposing = telling_patches(probability, tissue)
    assert supporting[:3] == [1, 0, 3]
    assert opposing == [2, 4]
    assert not set(supporting) & set(opposing)


def test_colours_are_one_per_class() -> None:
    colours = class_colours(load_taxonomy("neuroblastic-tumours"))
    assert len(set(colours.values())) == 5


def test_an_interval_is_as_wide_as_the_parts_of_the_slide_differ() -> None:
    corners = np.array([(x * 224, y * 224) for y in range(8) for x in range(8)])
    blocks = block_of(corners, size_px=224.0)
    assert sorted(np.bincount(blocks)) == [16] * 4
    alike = np.tile([[0.7, 0.3]], (64, 1))
    patchy = np.where((blocks == 0)[:, None], [[0.1, 0.9]], [[0.9, 0.1]])
    assert call_intervals(alike, np.ones(64), blocks)[0] == pytest.approx((0.7, 0.7))
    low, high = call_intervals(patchy, np.ones(64), blocks)[0] or (0, 0)
    assert low < 0.7 < high and high - low > 0.3
    assert call_intervals(patchy, np.ones(64), np.zeros(64, dtype=int)) == [None, None]


def test_patches_of_any_size_lie_in_blocks_of_four_by_four() -> None:
    corners = np.array([(0, 0), (3 * 112, 0), (4 * 112, 0), (0, 4 * 112)])
    assert len(set(block_of(corners, size_px=112.0))) == 3
