"""What a page shows is escaped, marked and chosen as it should be."""

import numpy as np

from data.taxonomy import load_taxonomy
from mmlnb.findings_profile import findings_profile
from mmlnb.pages.highlight import highlight
from mmlnb.pages.slide_page import telling_patches
from mmlnb.palette import class_colours

TAXONOMY = load_taxonomy()


def test_findings_are_marked_and_everything_else_is_escaped() -> None:
    marked = highlight("<script>No rosettes</script> & scant neuropil", TAXONOMY)
    assert "<script>" not in marked
    assert "&lt;script&gt;" in marked
    assert '<mark title="Homer Wright pseudorosettes: absent">rosettes</mark>' in marked
    assert '<mark title="Neuropil: scant">neuropil</mark>' in marked


def test_a_text_without_findings_is_left_as_it_is() -> None:
    assert highlight("plain words", TAXONOMY) == "plain words"


def test_the_profile_counts_over_the_described_patches_only() -> None:
    profile = {
        f.title: f.values for f in findings_profile(["No neuropil.", None, "Scant neuropil.", "Nothing."], TAXONOMY)
    }
    assert profile["Neuropil"] == {"absent": 1 / 3, "scant": 1 / 3, "abundant": 0.0}
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
