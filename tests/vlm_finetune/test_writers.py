"""A folder of captions says which adapters wrote it and whose descriptions these had read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mmlnb
from data.caption_writers import read_writers
from data.captions import read_captions
from data.errors import InputError
from data.manifest import read_manifest, write_manifest


@pytest.fixture
def settings(micro_model: str, manifest: Path) -> dict[str, Any]:
    quick = {"epochs": 2.0, "lora_rank": 4, "learning_rate": 1e-2, "batch_size": 4, "accumulation": 1}
    return {"manifest": manifest, "model": micro_model, "image_px": 56, "device": "cpu", "sample_patches": 1} | quick


@pytest.fixture
def describe(micro_model: str, manifest: Path) -> dict[str, Any]:
    return {"manifest": manifest, "model": micro_model, "max_new_tokens": 6, "device": "cpu"}


def test_an_adapter_and_its_folds_are_written_down_with_their_patients(
    settings: dict[str, Any], describe: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    mmlnb.finetune(out=run, crossfit=2, **settings)
    mmlnb.caption(out=tmp_path / "captions", adapter=run, **describe)
    writers = read_writers(tmp_path / "captions")
    assert writers is not None
    assert {writer.adapter for writer in writers} == {
        str(run),
        str(run / "crossfit" / "1"),
        str(run / "crossfit" / "2"),
    }
    for writer in writers:
        assert writer.adapter is not None and writer.trained_on is not None
        told = json.loads((Path(writer.adapter) / "trained_on.json").read_text())["patients"]
        assert list(writer.trained_on) == told and told
        assert writer.chosen_on == ("patient-4",)
    assert len({writer.weights for writer in writers}) == 3

    # A folder from before it was written down gets it without anything being described again.
    (tmp_path / "captions" / "writers.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "captions").glob("part-*")}
    mmlnb.caption(out=tmp_path / "captions", adapter=run, **describe)
    assert read_writers(tmp_path / "captions") == writers
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "captions").glob("part-*")} == before


def test_captions_of_patients_that_the_adapter_knows_are_not_judged_as_held_out(
    settings: dict[str, Any], describe: dict[str, Any], tmp_path: Path
) -> None:
    run = mmlnb.finetune(out=tmp_path / "run", **settings)
    # The leak of a split that was made anew: the third patient was trained on, and is now tested.
    frame = read_manifest(settings["manifest"])
    frame.loc[frame["patient_id"] == "patient-2", "split"] = "test"
    write_manifest(frame, settings["manifest"])
    mmlnb.caption(out=tmp_path / "captions", adapter=run, seen_patients="allow", **describe)
    with pytest.raises(
        InputError, match=r"run, which wrote captions, was trained on patient patient-2 of the split te"
    ):
        mmlnb.evaluate_captions(manifest=describe["manifest"], captions=tmp_path / "captions", out=tmp_path / "judged")


def test_a_model_without_an_adapter_knows_nobody_unless_it_was_trained_as_a_whole(
    settings: dict[str, Any], describe: dict[str, Any], tmp_path: Path
) -> None:
    mmlnb.caption(out=tmp_path / "base", splits=["test"], **describe)
    (base,) = read_writers(tmp_path / "base") or []
    assert (base.adapter, base.trained_on, base.chosen_on) == (None, (), ())

    run = mmlnb.finetune(out=tmp_path / "run", tune="full", **settings)
    mmlnb.caption(out=tmp_path / "whole", splits=["test"], **describe | {"model": str(run / "model")})
    (whole,) = read_writers(tmp_path / "whole") or []
    assert whole.trained_on == tuple(f"patient-{number}" for number in range(4))

    moved = shutil.copytree(run / "model", tmp_path / "elsewhere" / "model")
    mmlnb.caption(out=tmp_path / "moved", splits=["test"], **describe | {"model": str(moved)})
    (unknown,) = read_writers(tmp_path / "moved") or []
    assert unknown.trained_on is None and unknown.chosen_on is None
    assert len(read_captions(tmp_path / "moved")) == 2
