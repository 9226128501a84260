"""A bundle is gathered from stages that belong together, whole or not at all."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import mmlnb
from data.errors import InputError
from data.manifest import read_manifest


@pytest.fixture
def stages(demo_run: Path, tmp_path: Path) -> dict[str, Path]:
    """Outputs of the stages, as the command takes them."""
    names = {"finetune": "finetune", "caption": "captions", "train": "train", "evaluate": "evaluate"}
    folders = {setting: tmp_path / name for setting, name in names.items()}
    for setting, name in names.items():
        shutil.copytree(demo_run / name, folders[setting])
    return {**folders, "manifest": demo_run / "patches.parquet", "out": tmp_path / "bundle"}


def test_the_same_stages_give_the_same_bundle(demo_run: Path, stages: dict[str, Path]) -> None:
    notice = json.loads((demo_run / "bundle" / "bundle.json").read_text())["notice"]
    mmlnb.bundle(**stages, notice=notice)
    assert (stages["out"] / "bundle.json").read_bytes() == (demo_run / "bundle" / "bundle.json").read_bytes()
    assert not list(stages["out"].rglob("*.p[tk]*"))
    tested = read_manifest(stages["manifest"]).query("split == 'test'")
    assert sorted(pd.read_parquet(stages["out"] / "held_out.parquet")["pixel_hash"]) == sorted(tested["pixel_hash"])
    with pytest.raises(InputError, match="bundle: exists already"):
        mmlnb.bundle(**stages)


def test_a_missing_stage_is_named_and_leaves_nothing(stages: dict[str, Path]) -> None:
    (stages["train"] / "calibration.json").unlink()
    with pytest.raises(InputError, match=r"calibration\.json: missing"):
        mmlnb.bundle(**stages)
    assert not stages["out"].exists()


def test_figures_of_another_model_are_refused(stages: dict[str, Path]) -> None:
    calibration = stages["train"] / "calibration.json"
    calibration.write_text(calibration.read_text().replace("val", "other"))
    with pytest.raises(InputError, match="evaluate: measured another model"):
        mmlnb.bundle(**stages)
    assert not stages["out"].exists()
