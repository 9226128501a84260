"""What chosen captions say of a slide is said of the whole slide, and borrowed words are known as such."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data.taxonomy import load_taxonomy
from fusion.aggregate import aggregate
from mmlnb.caption_budget import CaptionBudget
from mmlnb.caption_choice import Candidates
from mmlnb.chosen_captions import CaptionChoice, ChosenCaptions, read_chosen
from mmlnb.findings_profile import findings_profile

TAXONOMY = load_taxonomy()


def kinds(*sizes: int) -> Candidates:
    """So many patches of each of a few kinds that look nothing like one another."""
    random = np.random.default_rng(0)
    kind = np.repeat(np.arange(len(sizes)), sizes)
    features = np.eye(len(sizes))[kind] + 0.01 * random.random((len(kind), len(sizes)))
    probabilities = random.dirichlet((3, 2, 1), len(kind)).astype(np.float32)
    return Candidates(features=features.astype(np.float16), probabilities=probabilities, tissue=np.ones(len(kind)))


def choice(similarity: float | None = None) -> CaptionChoice:
    return CaptionChoice(CaptionBudget(patches=4), "mix", similarity)


def test_weights_are_shares_of_the_slide_and_undo_the_bias_of_the_choice() -> None:
    candidates = kinds(90, 10)
    # Half of the captions went to the tenth that is odd.
    chosen = choice().share_out(candidates, [95, 3, 91, 40, 99, 60])
    assert chosen.weights.sum() == pytest.approx(1)
    assert (chosen.weights > 0).nonzero()[0].tolist() == [3, 40, 60, 91, 95, 99]
    finding, values = next((name, list(one.values)) for name, one in TAXONOMY.findings.items())
    stated: list[dict[str, str] | None] = [None] * 100
    for index in (3, 40, 60):
        stated[index] = {finding: values[0]}
    for index in (91, 95, 99):
        stated[index] = {finding: values[1]}
    plain, weighted = (findings_profile(stated, TAXONOMY, weights=one)[0].values for one in (None, chosen.weights))
    assert (plain[values[0]], plain[values[1]]) == (0.5, 0.5)
    assert weighted[values[0]] == pytest.approx(0.9)
    assert weighted[values[1]] == pytest.approx(0.1)


def test_words_are_borrowed_only_from_where_tissue_is_alike() -> None:
    candidates = kinds(4, 4, 4)
    chosen = choice(0.9).share_out(candidates, [0, 5])
    assert chosen.source.tolist() == [0, 0, 0, 0, 5, 5, 5, 5, -1, -1, -1, -1]
    assert chosen.borrowed.nonzero()[0].tolist() == [1, 2, 3, 4, 6, 7]
    assert chosen.described.tolist() == [0, 5]
    texts = [None] * 12
    texts[0], texts[5] = "a", "b"
    assert chosen.spoken(texts)[3:9] == ("a", "b", "b", "b", "b", None)
    assert choice().share_out(candidates, [0, 5]).borrowed.sum() == 0
    assert choice(-1).share_out(candidates, [0, 5]).borrowed.sum() == 10


def test_where_no_caption_came_of_it_nothing_stands_for_the_slide() -> None:
    chosen = choice(0.5).share_out(kinds(3, 2), [])
    assert chosen.weights.tolist() == [0] * 5
    assert not chosen.borrowed.any()
    assert chosen.spoken([None] * 5) == (None,) * 5


def test_the_curve_begins_with_the_image_alone_and_ends_with_the_call() -> None:
    candidates = kinds(30, 10)
    chosen = choice(0.9).share_out(candidates, [35, 2, 20])
    fused = np.where((chosen.source >= 0)[:, None], candidates.probabilities[::-1], candidates.probabilities)
    steps, curve = chosen.curve(fused=fused, image=candidates.probabilities, tissue=candidates.tissue)
    assert steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(curve[0], aggregate(candidates.probabilities, candidates.tissue).tissue_weighted)
    np.testing.assert_allclose(curve[-1], aggregate(fused, candidates.tissue).tissue_weighted)
    first = np.where((chosen.source == 35)[:, None], fused, candidates.probabilities)
    np.testing.assert_allclose(curve[1], aggregate(first, candidates.tissue).tissue_weighted)


def test_the_columns_of_the_predictions_give_the_choice_back() -> None:
    chosen = choice(0.9).share_out(kinds(5, 3, 2), [6, 1])
    names = [f"s@{number},0" for number in range(10)]
    table = pa.table({"patch_id": names, **chosen.columns(names)})
    found = read_chosen(table.to_pandas())
    assert found is not None
    for field in ("order", "nearest", "source"):
        assert getattr(found, field).tolist() == getattr(chosen, field).tolist(), field
    assert read_chosen(pd.DataFrame({"patch_id": names})) is None
    assert isinstance(found, ChosenCaptions)
