"""Training text is made wrong in the shares that were asked for, in the way they say."""

import numpy as np
import pytest

from data.errors import InputError
from fusion.config import TrainConfig
from fusion.text_noise import TextNoise, draw_texts

LABELS = np.arange(3000) % 3


def test_every_fate_has_its_share_and_its_kind() -> None:
    drawn = draw_texts(LABELS, TextNoise(0.1, 0.2, 0.3, 0.15), np.random.default_rng(0))
    rows = np.arange(len(LABELS))
    swapped = (drawn.source != rows) & (drawn.source >= 0)
    same = LABELS[drawn.source] == LABELS
    assert np.mean(drawn.source < 0) == pytest.approx(0.1, abs=0.02)
    assert np.mean(swapped & same) == pytest.approx(0.2, abs=0.02)
    assert np.mean(swapped & ~same) == pytest.approx(0.3, abs=0.02)
    cut = drawn.kept < 1
    assert np.mean(cut) == pytest.approx(0.15, abs=0.02)
    assert (drawn.source[cut] == rows[cut]).all()
    assert drawn.from_start[cut].mean() == pytest.approx(0.5, abs=0.1)


def test_without_noise_every_row_has_its_whole_text() -> None:
    drawn = draw_texts(LABELS, TextNoise(), np.random.default_rng(0))
    assert (drawn.source == np.arange(len(LABELS))).all()
    assert drawn.tokens(5, [1, 2, 3, 4]) == [1, 2, 3, 4]


def test_a_row_without_another_class_to_swap_with_keeps_its_own() -> None:
    drawn = draw_texts(np.zeros(50, dtype=int), TextNoise(swap_across=1.0), np.random.default_rng(0))
    assert (drawn.source == np.arange(50)).all()


def test_words_are_left_out_at_the_end_or_anywhere_and_the_frame_stays() -> None:
    drawn = draw_texts(LABELS, TextNoise(cut=1.0), np.random.default_rng(0))
    ids = list(range(100, 142))
    for row in range(200):
        left = drawn.tokens(row, ids)
        assert left[0] == ids[0]
        assert left[-1] == ids[-1]
        assert left == sorted(left)
        if drawn.from_start[row]:
            assert left[:-1] == ids[: len(left) - 1]
            assert len(left) - 2 == round(drawn.kept[row] * 40)
        assert left == drawn.tokens(row, ids)


@pytest.mark.parametrize("shares", [{"text_dropout": -0.1}, {"text_swap_across": 0.7, "text_swap_within": 0.4}])
def test_shares_that_cannot_be_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InputError, match="none may be below 0, nor their sum above 1"):
        TrainConfig(manifest="patches.parquet", out="out", **shares)  # type: ignore[arg-type]
