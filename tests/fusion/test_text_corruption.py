"""Every way of making text wrong does what it says, to the share of patches that was asked for."""

import numpy as np
import pytest

from data.findings import read_findings
from data.taxonomy import load_taxonomy
from fusion.text_corruption import CORRUPTIONS, TextCase, flip_text

TAXONOMY = load_taxonomy()
CLASSES = len(TAXONOMY.class_names)


@pytest.fixture
def case() -> TextCase:
    """Sixty patches of twenty patients, each text naming its class and patch; every tenth has none."""
    labels = np.arange(60) % CLASSES
    texts = [
        None if row % 10 == 9 else f"class {label} patch {row} abundant neuropil" for row, label in enumerate(labels)
    ]
    return TextCase(texts, labels, [f"patient {row // CLASSES}" for row in range(60)], TAXONOMY)


def made(case: TextCase, name: str, rate: float, seed: int = 3) -> tuple[list[str | None], np.ndarray]:
    found = CORRUPTIONS[name](case, rate, np.random.default_rng(seed))
    return found.texts, found.corrupted


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_nothing_is_changed_at_rate_0_and_a_missing_text_never_comes_back(case: TextCase, name: str) -> None:
    texts, corrupted = made(case, name, 0.0)
    assert texts == list(case.texts)
    assert not corrupted.any()
    texts, _ = made(case, name, 1.0)
    assert all(text is None for text, before in zip(texts, case.texts, strict=True) if before is None)


@pytest.mark.parametrize("name", ["dropped", "within-class swap", "cross-class swap", "caption of a wrong class"])
def test_the_share_is_that_of_the_patches_with_text_and_grows_from_the_same_ones(case: TextCase, name: str) -> None:
    half, all_of_them = made(case, name, 0.5)[1], made(case, name, 1.0)[1]
    assert half.sum() == 27
    assert all_of_them.sum() == 54
    assert made(case, name, 0.25)[1][half].sum() == made(case, name, 0.25)[1].sum()


def written_class(text: str | None) -> int:
    assert text is not None
    return int(text.split()[1])


def test_swaps_keep_or_change_the_class_and_never_stay_with_the_patient(case: TextCase) -> None:
    for name in ("within-class swap", "cross-class swap", "caption of a wrong class"):
        texts, corrupted = made(case, name, 1.0)
        for row in np.flatnonzero(corrupted):
            text = texts[row]
            assert text is not None
            assert case.groups[int(text.split()[3])] != case.groups[row]
            if name == "within-class swap":
                assert written_class(text) == case.labels[row]
            elif name == "cross-class swap":
                assert written_class(text) != case.labels[row]
            else:
                assert written_class(text) == (case.labels[row] + 1) % CLASSES


def test_where_nothing_can_be_swapped_nothing_counts_as_corrupted(case: TextCase) -> None:
    alone = TextCase(case.texts, np.zeros(60, dtype=int), case.groups, TAXONOMY)
    texts, corrupted = made(alone, "cross-class swap", 1.0)
    assert texts == list(case.texts)
    assert not corrupted.any()


def test_words_are_masked_or_cut_off_by_the_share(case: TextCase) -> None:
    masked = [text for text in made(case, "masked words", 0.5)[0] if text]
    share = np.mean([word == "[MASK]" for text in masked for word in text.split()])
    assert 0.4 < share < 0.6
    assert {len(text.split()) for text in made(case, "truncation", 0.5)[0] if text} == {3}
    assert set(made(case, "truncation", 1.0)[0]) == {None}


@pytest.mark.parametrize(
    ("text", "flipped"),
    [
        ("The tissue shows no necrosis and calcification.", {"necrosis": "present", "calcification": "present"}),
        ("There is necrosis. Calcific deposits are seen.", {"necrosis": "absent", "calcification": "absent"}),
        ("Absence of calcific deposits. We see haemorrhage.", {"haemorrhage": "absent", "calcification": "present"}),
    ],
)
def test_what_was_denied_is_stated_and_the_reverse(text: str, flipped: dict[str, str]) -> None:
    assert read_findings(flip_text(text, TAXONOMY), TAXONOMY) == flipped


def test_a_text_without_findings_cannot_be_flipped(case: TextCase) -> None:
    other = TextCase(["nothing to tell"] * 60, case.labels, case.groups, TAXONOMY)
    texts, corrupted = made(other, "flipped negations", 1.0)
    assert set(texts) == {"nothing to tell"}
    assert not corrupted.any()
