"""Two results of the same patches are compared in pairs, and others are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import draw_predictions, write_evaluation

from data.errors import InputError
from fusion.classified import Classified
from fusion.compare import compare
from fusion.config import CompareConfig
from fusion.mcnemar import mcnemar
from fusion.paired import pair
from fusion.predictions import Predictions
from fusion.weighted_measures import HIGHER_IS_BETTER

Evaluations = tuple[Path, Path]


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    """A weak model and a strong one on the same patches, which the second lists in another order."""
    weak, strong = draw_predictions(skill=0.1, seed=1), draw_predictions(skill=1.0, seed=2)
    order = np.random.default_rng(0).permutation(len(strong))
    return write_evaluation(tmp_path / "weak", weak), write_evaluation(tmp_path / "strong", strong.take(order))


def comparison(config: CompareConfig) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((compare(config) / "comparison.json").read_text())
    return content


def test_the_better_of_two_runs_is_seen_with_an_interval_that_leaves_out_zero(
    evaluations: Evaluations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak, strong = evaluations
    found = comparison(CompareConfig(a=weak, b=strong, out=tmp_path / "out"))
    assert (found["patches"]["rows"], found["patches"]["patients"], found["slides"]["rows"]) == (72, 12, 12)
    for what in ("patches", "slides"):
        assert set(found[what]["measures"]) == set(HIGHER_IS_BETTER)
    accuracy = found["patches"]["measures"]["accuracy"]
    truth = {}
    for name, folder, seed, skill in (("a", weak, 1, 0.1), ("b", strong, 2, 1.0)):
        predictions = draw_predictions(skill=skill, seed=seed)
        truth[name] = (predictions.arms["fused"].argmax(1) == predictions.labels).mean()
        assert accuracy[name] == pytest.approx(truth[name]), folder
    assert accuracy["difference"] == pytest.approx(truth["a"] - truth["b"])
    assert accuracy["interval"][0] < accuracy["difference"] < accuracy["interval"][1] < 0
    assert (accuracy["a_higher"], accuracy["b_higher"]) == (0, 1)
    shown = capsys.readouterr()
    assert "A = weak/fused, B = strong/fused" in shown.out + shown.err
    assert "McNemar p = " in shown.out + shown.err


def test_turning_a_comparison_round_turns_its_signs(evaluations: Evaluations, tmp_path: Path) -> None:
    one = comparison(CompareConfig(a=evaluations[0], b=evaluations[1], out=tmp_path / "one"))
    other = comparison(CompareConfig(a=evaluations[1], b=evaluations[0], out=tmp_path / "other"))
    for name in HIGHER_IS_BETTER:
        first, second = (content["patches"]["measures"][name] for content in (one, other))
        assert first["difference"] == pytest.approx(-second["difference"])
        assert first["interval"] == pytest.approx([-end for end in second["interval"][::-1]])
        assert first["a_higher"] == second["b_higher"]
    assert one["slides"]["mcnemar"]["p"] == other["slides"]["mcnemar"]["p"]


def test_pairing_takes_away_what_both_results_share() -> None:
    weak = draw_predictions(patients=30, skill=0.3).classified("fused")
    better = replace(weak, probabilities=weak.probabilities.copy())
    better.probabilities[0] = np.eye(3)[weak.labels[0]]  # One patch of one patient is all that is new.
    found = pair(better, weak, seed=0).measures["log_loss"]
    assert found.interval is not None
    assert found.interval[1] <= 0
    assert found.a_higher == 0
    same = pair(weak, weak, seed=0).measures["accuracy"]
    assert (same.difference, same.interval, same.a_higher, same.b_higher) == (0, (0, 0), 0, 0)


def test_measures_that_are_equal_but_for_rounding_are_equal() -> None:
    # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in its last digit.
    labels = np.tile(np.repeat([0, 1, 2], 10), 20)
    owners = np.repeat([f"{one}" for one in range(20)], 30).astype(object)

    def calls(right: tuple[int, int, int]) -> Classified:
        hit = np.tile(np.concatenate([np.arange(10) < count for count in right]), 20)
        return Classified(labels, np.eye(3)[np.where(hit, labels, (labels + 1) % 3)], owners)

    found = pair(calls((1, 2, 3)), calls((3, 2, 1)), seed=0).measures["balanced_accuracy"]
    assert (found.difference, found.interval, found.a_higher, found.b_higher) == (0, (0, 0), 0, 0)


def test_two_arms_of_one_evaluation_are_compared_where_both_have_something_to_say(tmp_path: Path) -> None:
    predictions = draw_predictions()
    predictions.has_text[:7] = False
    folder = write_evaluation(tmp_path / "evaluated", predictions)
    found = comparison(CompareConfig(a=folder, arm_a="fused", arm_b="text_only", out=tmp_path / "out"))
    assert (found["patches"]["rows"], found["patches"]["left_out_without_text"]) == (65, 7)
    assert found["slides"]["rows"] == 11
    with pytest.raises(InputError, match="compared with itself"):
        CompareConfig(a=folder, out=tmp_path / "out")


def test_mcnemar_counts_a_planted_table() -> None:
    a_right = np.array([True] * 5 + [True] * 9 + [False] * 1 + [False] * 2)
    b_right = np.array([True] * 5 + [False] * 9 + [True] * 1 + [False] * 2)
    found = mcnemar(a_right, b_right)
    assert (found.both_right, found.only_a_right, found.only_b_right, found.both_wrong) == (5, 9, 1, 2)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(a_right, a_right).p == 1
    assert mcnemar(a_right[:0], b_right[:0]).p is None


def test_mcnemar_is_of_slides_and_says_where_patients_have_several(tmp_path: Path) -> None:
    right, wrong = np.eye(3, dtype=np.float32), np.roll(np.eye(3, dtype=np.float32), 1, axis=1)
    predictions = draw_predictions(patients=6)
    labels = predictions.labels
    first = np.repeat([True, True, True, True, False, False], 6)
    arms = dict(predictions.arms) | {
        "image_only": np.where(first[:, None], wrong[labels], right[labels]),
        "fused": right[labels],
    }
    one_each = replace(predictions, arms=arms)
    folder = write_evaluation(tmp_path / "evaluated", one_each)
    arms_compared = {"arm_a": "fused", "arm_b": "image_only"}
    found = comparison(CompareConfig(a=folder, out=tmp_path / "out", **arms_compared))["slides"]["mcnemar"]
    assert (found["both_right"], found["only_a_right"], found["only_b_right"]) == (2, 4, 0)
    assert found["p"] == pytest.approx(2 / 2**4)
    assert found["remark"] is None
    several = replace(one_each, patients=["the same"] * 18 + ["another"] * 18)
    folder = write_evaluation(tmp_path / "several", several)
    found = comparison(CompareConfig(a=folder, out=tmp_path / "of several", **arms_compared))
    assert "one patient" in found["slides"]["mcnemar"]["remark"]
    assert found["slides"]["patients"] == 2


def test_without_slides_only_patches_are_compared_and_the_reason_is_given(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "evaluated", draw_predictions(slides=False))
    found = comparison(CompareConfig(a=folder, arm_b="image_only", out=tmp_path / "out"))
    assert found["slides"] is None
    assert found["slides_reason"] == "no patch names its slide"


def change(predictions: Predictions, what: str) -> Predictions:
    """`predictions` of other patches: `what` of them is not the same."""
    match what:
        case "patches":
            return predictions.take(np.arange(3, len(predictions)))
        case "classes":
            return replace(predictions, classes=("UD", "PD", "X"))
        case "label":
            return replace(predictions, labels=np.where(np.arange(len(predictions)) == 4, 2, predictions.labels))
        case "slide":
            return replace(predictions, slides=[None, *predictions.slides[1:]])
        case "tissue":
            return replace(predictions, tissue=predictions.tissue - np.float32(0.4) * (predictions.tissue > 0.9))
        case _:
            return replace(predictions, patients=["somebody", *predictions.patients[1:]])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("patches", r"has not the patches of .*3 are only there and 0 only here, for example patch 0"),
        ("classes", r"has the classes UD, PD, X, and .* has UD, PD, D"),
        ("label", r"the label of 1 patches is not that in .*for example patch 4: D, there UD"),
        ("slide", r"the slide of 1 patches .*patch 0: None, there patient 00\.svs"),
        ("tissue", r"the images of 15 patches show more or less tissue than in .*, for example patch 57"),
        ("patient", r"the patient of 1 patches .*patch 0: somebody, there patient 00"),
    ],
)
def test_other_patches_are_refused_and_what_differs_is_named(tmp_path: Path, what: str, message: str) -> None:
    one = write_evaluation(tmp_path / "one", draw_predictions())
    other = write_evaluation(tmp_path / "other", change(draw_predictions(seed=1), what))
    with pytest.raises(InputError, match=message):
        compare(CompareConfig(a=one, b=other, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_evaluation_and_one_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json: missing; give a folder that `mmlnb evaluate` finished"):
        compare(CompareConfig(a=tmp_path, arm_b="image_only", out=tmp_path / "out"))
    old = write_evaluation(tmp_path / "old", draw_predictions())
    import pandas as pd

    pd.read_parquet(old / "predictions.parquet").drop(columns="tissue").to_parquet(old / "predictions.parquet")
    with pytest.raises(InputError, match=r"old: not an evaluation of this version \('tissue'\); evaluate again"):
        compare(CompareConfig(a=old, arm_b="image_only", out=tmp_path / "out"))


def test_the_same_comparison_is_the_same_file_and_another_needs_a_folder_of_its_own(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    config = CompareConfig(a=evaluations[0], b=evaluations[1], out=tmp_path / "out")
    first = (compare(config) / "comparison.json").read_bytes()
    assert (compare(config) / "comparison.json").read_bytes() == first
    with pytest.raises(InputError, match="other settings or inputs"):
        compare(replace(config, arm_b="image_only"))
