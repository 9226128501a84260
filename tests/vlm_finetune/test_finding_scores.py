"""Scores of findings stated in text."""

import pytest

from data.taxonomy import load_taxonomy
from vlm_finetune.finding_scores import finding_macro_f1

TAXONOMY = load_taxonomy()
TRUTH = [{"necrosis": "absent", "neuropil": "scant"}, {"necrosis": "present", "neuropil": "abundant"}]


def test_right_statements_score_one() -> None:
    assert finding_macro_f1(TRUTH, TRUTH, TAXONOMY).macro_f1 == 1.0


def test_silence_scores_zero() -> None:
    scores = finding_macro_f1(TRUTH, [{}, {}], TAXONOMY)
    assert scores.per_finding == {"necrosis": 0.0, "neuropil": 0.0}


def test_a_finding_stated_in_half_of_the_texts_scores_half() -> None:
    scores = finding_macro_f1(TRUTH, [TRUTH[0], {"neuropil": "abundant"}], TAXONOMY)
    assert scores.per_finding == {"neuropil": 1.0, "necrosis": 0.5}
    assert scores.macro_f1 == pytest.approx(0.75)


def test_a_rare_value_weighs_as_much_as_a_common_one() -> None:
    truth = [{"necrosis": "absent"}] * 9 + [{"necrosis": "present"}]
    always_absent = [{"necrosis": "absent"}] * 10
    assert finding_macro_f1(truth, always_absent, TAXONOMY).macro_f1 < 0.5
