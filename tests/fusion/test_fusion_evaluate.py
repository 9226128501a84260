"""Evaluation on held-out patches, from files to files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import InputError
from data.manifest import read_manifest, write_manifest
from fusion.config import EvaluateConfig
from fusion.evaluate import evaluate
from fusion.metrics import balanced_accuracy


@pytest.fixture
def config(trained: Path, dataset: tuple[Path, Path], tmp_path: Path) -> EvaluateConfig:
    manifest, captions = dataset
    return EvaluateConfig(model=trained, manifest=manifest, captions=captions, out=tmp_path / "eval", device="cpu")


def test_metrics_and_predictions_agree(config: EvaluateConfig) -> None:
    out = evaluate(config)
    metrics = json.loads((out / "metrics.json").read_text())
    table = pd.read_parquet(out / "predictions.parquet")
    assert metrics["split"] == "test" and metrics["classes"] == ["UD", "PD", "D"] and metrics["patients"] == 3
    assert len(table) == 12 and set(table["patient_id"]) == {"test-UD", "test-PD", "test-D"}
    truth = np.array([metrics["classes"].index(label) for label in table["label"]])
    for arm in ("image_only", "text_only", "fused"):
        predicted = table[[f"{arm}_{name}" for name in metrics["classes"]]].to_numpy().argmax(axis=1)
        assert metrics[arm]["balanced_accuracy"] == pytest.approx(balanced_accuracy(truth, predicted))
    assert metrics["fused"]["balanced_accuracy"] >= 0.9
    assert table["gate"].between(0, 1).all()


def test_every_arm_has_its_table_curves_and_intervals(config: EvaluateConfig) -> None:
    metrics = json.loads((evaluate(config) / "metrics.json").read_text())
    for arm in ("image_only", "text_only", "fused"):
        measured = metrics[arm]
        assert set(measured["per_class"]) == {"UD", "PD", "D"}
        assert sum(one["support"] for one in measured["per_class"].values()) == measured["patches"]
        assert sum(one["share"] for one in measured["calibration"]["bins"]) == pytest.approx(1)
        assert measured["risk_coverage"]["points"][-1] == {
            "coverage": 1.0,
            "risk": pytest.approx(1 - measured["accuracy"]),
        }
        low, high = measured["intervals"]["accuracy"]
        assert 0 <= low <= measured["accuracy"] <= high <= 1
        # Each class has one patient, so that a third of the draws or so know only two of the classes.
        assert "only 3 patients" in measured["intervals_remark"]
    assert metrics["slides"] is None
    assert metrics["slides_reason"] == "no patch names its slide"


def test_slides_are_measured_with_every_aggregation_where_patches_name_them(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    frame = read_manifest(config.manifest)
    frame["image"] = [str((config.manifest.parent / image).resolve()) for image in frame["image"]]
    halves = frame.groupby("patient_id").cumcount() % 2
    frame["slide_id"] = frame["patient_id"] + "-" + halves.astype(str) + ".svs"
    write_manifest(frame, tmp_path / "named" / "patches.parquet")
    out = evaluate(replace(config, manifest=tmp_path / "named" / "patches.parquet"))
    slides = json.loads((out / "metrics.json").read_text())["slides"]
    assert (slides["count"], slides["patients"], slides["patches_without_slide"]) == (6, 3, 0)
    assert (slides["mixed_labels"], set(slides["left_out"].values())) == (0, {0})
    table = pd.read_parquet(out / "predictions.parquet")
    assert table["tissue"].between(0, 1).all()
    mean = table.groupby("slide_id")[[f"fused_{name}" for name in ("UD", "PD", "D")]].mean().to_numpy()
    truth = table.groupby("slide_id")["label"].first().map(["UD", "PD", "D"].index).to_numpy()
    for name in ("mean", "hard_vote", "tissue_weighted"):
        fused = slides["aggregations"][name]["fused"]
        assert fused["slides"] == 6
        assert "patches" not in fused
        assert fused["intervals"]["accuracy"] is not None
    accuracy = slides["aggregations"]["mean"]["fused"]["accuracy"]
    assert accuracy == pytest.approx((mean.argmax(1) == truth).mean())


def test_text_only_counts_the_patches_that_have_text(config: EvaluateConfig) -> None:
    metrics = json.loads((evaluate(replace(config, split="train")) / "metrics.json").read_text())
    assert metrics["missing_text"] == 6
    assert (metrics["text_only"]["patches"], metrics["fused"]["patches"]) == (30, 36)


def test_evaluating_without_text_leaves_the_text_arm_undefined(config: EvaluateConfig) -> None:
    metrics = json.loads((evaluate(replace(config, text_source="none", captions=None)) / "metrics.json").read_text())
    assert metrics["text_only"]["patches"] == 0 and metrics["text_only"]["accuracy"] is None
    assert metrics["fused"]["balanced_accuracy"] >= 0.9


def test_the_same_evaluation_can_be_repeated_but_another_is_refused(config: EvaluateConfig) -> None:
    first = (evaluate(config) / "metrics.json").read_bytes()
    assert (evaluate(config) / "metrics.json").read_bytes() == first
    with pytest.raises(InputError, match="holds another evaluation"):
        evaluate(replace(config, split="val"))


@pytest.mark.parametrize(("split", "seen"), [("test", "train"), ("test", "val"), ("val", "train")])
def test_a_patient_the_model_has_seen_is_named(config: EvaluateConfig, tmp_path: Path, split: str, seen: str) -> None:
    frame = read_manifest(config.manifest)
    frame["image"] = [str((config.manifest.parent / image).resolve()) for image in frame["image"]]
    # The leak of a split that was made anew: nothing in this manifest itself tells of it.
    frame = frame[frame["split"] == split].reset_index(drop=True)
    frame.loc[frame["patient_id"] == f"{split}-PD", "patient_id"] = f"{seen}-UD"
    write_manifest(frame, tmp_path / "leaky" / "patches.parquet")
    leaky = replace(config, manifest=tmp_path / "leaky" / "patches.parquet", split=split)
    with pytest.raises(InputError, match=rf"trained_on\.json: patient {seen}-UD of the split {split} was seen"):
        evaluate(leaky)
    assert not leaky.out.exists()


def test_validation_patients_may_be_measured_as_such(config: EvaluateConfig) -> None:
    assert (evaluate(replace(config, split="val")) / "metrics.json").is_file()


@pytest.mark.parametrize("content", [None, '{"train": ["a"]'], ids=["absent", "cut short"])
def test_a_model_that_does_not_say_whom_it_has_seen_is_refused(
    config: EvaluateConfig, tmp_path: Path, content: str | None
) -> None:
    shutil.copytree(config.model, tmp_path / "run")
    (tmp_path / "run" / "trained_on.json").unlink()
    if content is not None:
        (tmp_path / "run" / "trained_on.json").write_text(content)
    with pytest.raises(InputError, match=r"trained_on\.json.*train it again"):
        evaluate(replace(config, model=tmp_path / "run"))


def test_a_folder_without_a_model_is_named(config: EvaluateConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trained model"):
        evaluate(replace(config, model=tmp_path))


def test_robustness_is_measured_at_every_rate_and_written_in_three_forms(config: EvaluateConfig) -> None:
    out = evaluate(replace(config, robustness=True))
    points = pd.read_csv(out / "robustness.csv")
    assert points.groupby("corruption").size().to_dict() == dict.fromkeys(points["corruption"].unique(), 6)
    assert set(points["modality"]) == {"text", "image"}
    whole = json.loads((out / "metrics.json").read_text())
    clean = points[points["rate"] == 0]
    assert clean["fused_balanced_accuracy"].to_numpy() == pytest.approx(whole["fused"]["balanced_accuracy"])
    dropped = points[(points["corruption"] == "dropped") & (points["rate"] == 1)].iloc[0]
    assert np.isnan(dropped["text_balanced_accuracy"])
    assert np.isnan(dropped["gate_auroc"])
    swapped = points[(points["corruption"] == "cross-class swap") & (points["rate"] == 1)].iloc[0]
    assert swapped["text_balanced_accuracy"] < 1 / 3
    assert swapped["image_balanced_accuracy"] == pytest.approx(whole["image_only"]["balanced_accuracy"])
    content = json.loads((out / "robustness.json").read_text())
    assert len(content["areas"]) == 11
    assert (out / "robustness.png").stat().st_size > 10_000
    again = evaluate(replace(config, robustness=True))
    assert pd.read_csv(again / "robustness.csv").equals(points)
