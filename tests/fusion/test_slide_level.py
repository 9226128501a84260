"""Slides get one label, one patient and one call per aggregation, and what is left out is counted."""

from dataclasses import replace

import numpy as np
import pytest
from evaluations import draw_predictions

from fusion.predictions import ARMS, Predictions
from fusion.slide_level import AGGREGATIONS, call_slides, group_slides


def planted(**fields: object) -> Predictions:
    """Two slides of three patches, of patients one and two; all patches are of class 0 and called class 0."""
    settings: dict[str, object] = {
        "classes": ("UD", "PD"),
        "ids": list("abcdef"),
        "labels": np.zeros(6, dtype=int),
        "slides": ["s1"] * 3 + ["s2"] * 3,
        "patients": ["one"] * 3 + ["two"] * 3,
        "has_text": np.ones(6, dtype=bool),
        "tissue": np.ones(6),
        "gate": np.zeros(6),
        "arms": {arm: np.tile([0.8, 0.2], (6, 1)) for arm in ARMS},
    }
    return Predictions(**(settings | fields))  # type: ignore[arg-type]


def test_the_three_aggregations_may_call_a_slide_differently() -> None:
    probabilities = np.array([[0.9, 0.1], [0.45, 0.55], [0.3, 0.7]] * 2)
    predictions = planted(arms=dict.fromkeys(ARMS, probabilities), tissue=np.array([0.1, 1, 1, 1, 1, 1]))
    slides = group_slides(predictions)
    assert slides is not None
    calls = call_slides(slides, predictions, "fused")
    assert set(calls) == set(AGGREGATIONS)
    assert calls["mean"].probabilities[0] == pytest.approx([0.55, 0.45])
    assert calls["hard_vote"].probabilities[0] == pytest.approx([1 / 3, 2 / 3])
    assert calls["tissue_weighted"].probabilities[0] == pytest.approx([0.84 / 2.1, 1.26 / 2.1])
    assert list(calls["mean"].owners) == ["one", "two"]


def test_the_label_of_most_patches_is_that_of_the_slide_and_a_tie_is_left_out() -> None:
    majority = group_slides(planted(labels=np.array([0, 1, 1, 0, 0, 0])))
    assert majority is not None
    assert majority.labels.tolist() == [1, 0]
    assert majority.mixed_labels == 1
    tied = group_slides(
        planted(labels=np.array([0, 0, 1, 1, 0, 0]), slides=["s1"] * 4 + ["s2"] * 2, patients=[None] * 6)
    )
    assert tied is not None
    assert tied.ids == ["s2"]
    assert tied.left_out == {"tied_labels": 1, "several_patients": 0, "no_tissue": 0}


def test_a_slide_of_several_patients_or_without_tissue_is_left_out_and_counted() -> None:
    several = group_slides(planted(patients=["one", "two", "two", *["two"] * 3]))
    assert several is not None
    assert several.ids == ["s2"]
    assert several.left_out["several_patients"] == 1
    empty = group_slides(planted(tissue=np.array([0, 0, 0, 1.0, 1, 1])))
    assert empty is not None
    assert empty.ids == ["s2"]
    assert empty.left_out["no_tissue"] == 1


def test_a_slide_without_patient_counts_as_its_own_and_patches_without_slide_are_counted() -> None:
    slides = group_slides(planted(patients=[None] * 6, slides=["s1"] * 3 + ["s2", "s2", None]))
    assert slides is not None
    assert slides.owners.tolist() == ["s1", "s2"]
    assert slides.patches_without_slide == 1
    assert [rows.tolist() for rows in slides.patches] == [[0, 1, 2], [3, 4]]


def test_with_the_text_alone_only_patches_with_text_vote() -> None:
    has_text = np.array([True, False, False, False, False, False])
    probabilities = np.array([[0.1, 0.9], *[[0.5, 0.5]] * 5])
    predictions = planted(has_text=has_text, arms=dict.fromkeys(ARMS, probabilities))
    slides = group_slides(predictions)
    assert slides is not None
    text, fused = (call_slides(slides, predictions, arm)["mean"] for arm in ("text_only", "fused"))
    assert list(text.owners) == ["one"]
    assert text.probabilities[0] == pytest.approx([0.1, 0.9])
    assert len(fused) == 2
    mute = replace(predictions, has_text=np.zeros(6, dtype=bool))
    assert len(call_slides(slides, mute, "text_only")["mean"]) == 0


def test_without_slides_there_is_nothing_to_group() -> None:
    assert group_slides(draw_predictions(slides=False)) is None
