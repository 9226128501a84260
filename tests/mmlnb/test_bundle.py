"""A bundle is gathered from stages that belong together, whole or not at all."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

import mmlnb
from data.errors import InputError
from data.manifest import read_manifest
from mmlnb.bundles import load_bundle

SAID = {"training_data": "Tissue drawn by `mmlnb synth`: no image of it comes from a patient.", "licence": "apache-2.0"}


@pytest.fixture
def stages(demo_run: Path, tmp_path: Path) -> dict[str, Path]:
    """Outputs of the stages, each elsewhere, as the command takes them."""
    names = {"finetune": "finetune", "caption": "captions", "train": "train", "evaluate": "evaluate"}
    folders = {setting: tmp_path / name for setting, name in names.items()}
    for setting, name in names.items():
        shutil.copytree(demo_run / name, folders[setting])
    return {**folders, "manifest": demo_run / "patches.parquet", "out": tmp_path / "bundle"}


def test_the_same_stages_give_the_same_bundle_wherever_they_lie(demo_run: Path, stages: dict[str, Path]) -> None:
    made = (demo_run / "bundle" / "bundle.json").read_bytes()
    said = SAID | {"notice": load_bundle(demo_run / "bundle").index.notice}
    mmlnb.bundle_make(**stages, **said)
    assert (stages["out"] / "bundle.json").read_bytes() == made
    mmlnb.bundle_make(demo_run, stages["out"].parent / "again", **said)
    assert (stages["out"].parent / "again" / "bundle.json").read_bytes() == made
    tested = read_manifest(stages["manifest"]).query("split == 'test'")
    assert sorted(pd.read_parquet(stages["out"] / "held_out.parquet")["pixel_hash"]) == sorted(tested["pixel_hash"])
    with pytest.raises(InputError, match="bundle: exists already"):
        mmlnb.bundle_make(**stages)


def test_a_bundle_tells_nobody_where_things_lay_or_who_was_tested(demo_run: Path) -> None:
    bundle = demo_run / "bundle"
    patients = {f'"{patient}"' for patient in read_manifest(demo_run / "patches.parquet")["patient_id"]}
    for path in bundle.rglob("*.*"):
        if path.suffix in (".json", ".yaml", ".md"):
            text = path.read_text()
            assert str(demo_run.parent) not in text, path
            assert "run/" not in text, path
            assert not any(patient in text for patient in patients), path
    assert "manifest: patches.parquet" in (bundle / "config" / "train.yaml").read_text()


def test_the_card_states_figures_with_their_split_what_it_is_for_and_how_it_is_used(demo_run: Path) -> None:
    card = ModelCard.load(demo_run / "bundle" / "README.md")
    metrics = json.loads((demo_run / "evaluate" / "metrics.json").read_text())
    assert (card.data.library_name, card.data.license) == ("mmlnb", "apache-2.0")
    (result, *_) = card.data.eval_results
    assert (result.metric_type, result.dataset_split) == ("balanced_accuracy", "test")
    assert result.metric_value == pytest.approx(metrics["fused"]["balanced_accuracy"], abs=1e-4)
    assert f"Split `test`: {metrics['fused']['patches']} patches of {metrics['patients']} patients" in card.text
    manifest = read_manifest(demo_run / "patches.parquet").query("split == 'train'")
    assert f"| train | {len(manifest)} | {manifest['patient_id'].nunique()} |" in card.text
    for title in ("How to use it", "Intended use", "Training data", "Figures", "Limits", "Licence"):
        assert f"## {title}" in card.text
    assert "The models were trained on synthetic tissue only." in card.text
    assert SAID["training_data"] in card.text


def test_a_missing_stage_is_named_and_leaves_nothing(stages: dict[str, Path]) -> None:
    (stages["train"] / "calibration.json").unlink()
    with pytest.raises(InputError, match=r"calibration\.json: missing"):
        mmlnb.bundle_make(**stages)
    del stages["train"]
    with pytest.raises(InputError, match="--train is not given, and no run folder either"):
        mmlnb.bundle_make(**stages)
    assert not stages["out"].exists()


def test_figures_of_another_model_are_refused(stages: dict[str, Path]) -> None:
    calibration = stages["train"] / "calibration.json"
    calibration.write_text(calibration.read_text().replace("val", "other"))
    with pytest.raises(InputError, match="evaluate: measured another model"):
        mmlnb.bundle_make(**stages)
    assert not stages["out"].exists()


def test_an_adapter_that_was_asked_about_other_tissue_is_refused(stages: dict[str, Path]) -> None:
    prompt = stages["finetune"] / "prompt.json"
    prompt.write_text(prompt.read_text().replace("neuroblastoma image", "osteosarcoma image"))
    with pytest.raises(
        InputError, match=r"prompt\.json: asks .*osteosarcoma image.*the neuroblastoma of taxonomy\.yaml"
    ):
        mmlnb.bundle_make(**stages)
    assert not stages["out"].exists()
