"""Cross-fitting trains one adapter per fold of patients, and captioning uses the one that has not seen the patient."""

import json
from pathlib import Path

import pandas as pd
import pytest

import mmlnb
from data.captions import read_captions
from data.errors import InputError
from vlm_finetune.crossfit import deal_patients, without_fold
from vlm_finetune.pairs import Pair


def pairs(*patients: str | None) -> list[Pair]:
    return [Pair(f"p{i}", Path(f"{i}.png"), patient, "text", {}) for i, patient in enumerate(patients)]


def test_folds_hold_out_every_patient_once_and_are_even() -> None:
    rows = pairs(*"AABBCCDDEE")
    fold_of = deal_patients(rows, folds=3, seed=7)
    assert fold_of == deal_patients(rows[::-1], folds=3, seed=7)
    assert sorted(pd.Series(fold_of).value_counts()) == [1, 2, 2]
    kept = [{pair.patient_id for pair in without_fold(rows, fold=fold, folds=3, seed=7)} for fold in (1, 2, 3)]
    for patient in "ABCDE":
        assert sum(patient not in fold for fold in kept) == 1
    assert without_fold(rows, fold=0, folds=3, seed=7) == rows


def test_patients_that_cannot_be_held_out_are_refused() -> None:
    with pytest.raises(InputError, match="such as p1, have no patient_id"):
        deal_patients(pairs("A", None), folds=2, seed=0)
    with pytest.raises(InputError, match="--crossfit 3: give 2 to 2"):
        deal_patients(pairs("A", "B", "B"), folds=3, seed=0)


def test_training_patients_are_described_by_the_fold_that_has_not_seen_them(
    micro_model: str, manifest: Path, tmp_path: Path
) -> None:
    settings = {
        "manifest": manifest,
        "model": micro_model,
        "image_px": 56,
        "epochs": 4.0,
        "lora_rank": 4,
        "learning_rate": 1e-2,
    }
    settings |= {"batch_size": 4, "accumulation": 1, "sample_patches": 1, "sample_tokens": 4, "device": "cpu"}
    mmlnb.finetune(out=tmp_path / "run", crossfit=2, **settings)
    held_out = {}
    for fold in ("1", "2"):
        seen = json.loads((tmp_path / "run" / "crossfit" / fold / "trained_on.json").read_text())["patients"]
        held_out[fold] = {f"patient-{number}" for number in range(4)} - set(seen)
    assert sorted(held_out["1"] | held_out["2"]) == [f"patient-{number}" for number in range(4)]
    assert not held_out["1"] & held_out["2"]

    describe = {"manifest": manifest, "model": micro_model, "max_new_tokens": 6, "device": "cpu"}
    mmlnb.caption(out=tmp_path / "captions", adapter=tmp_path / "run", **describe)
    captions = read_captions(tmp_path / "captions").set_index("patch_id")
    frame = pd.read_parquet(manifest).set_index("patch_id")
    for fold in ("1", "2"):
        alone = tmp_path / f"fold-{fold}"
        adapter = tmp_path / "run" / "crossfit" / fold
        mmlnb.caption(out=alone, adapter=adapter, seen_patients="allow", **describe)
        expected = read_captions(alone).set_index("patch_id")
        ids = frame.index[frame["patient_id"].isin(held_out[fold])]
        assert captions.loc[ids, "key"].tolist() == expected.loc[ids, "key"].tolist()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "captions").glob("part-*")}
    mmlnb.caption(out=tmp_path / "captions", adapter=tmp_path / "run", **describe)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "captions").glob("part-*")} == before


def test_an_adapter_without_folds_does_not_describe_the_patients_it_was_trained_on(
    micro_model: str, manifest: Path, tmp_path: Path
) -> None:
    settings = {
        "manifest": manifest,
        "model": micro_model,
        "image_px": 56,
        "epochs": 4.0,
        "lora_rank": 4,
        "learning_rate": 1e-2,
    }
    settings |= {"batch_size": 4, "accumulation": 1, "sample_patches": 1, "sample_tokens": 4, "device": "cpu"}
    mmlnb.finetune(out=tmp_path / "run", **settings)
    describe = {"manifest": manifest, "model": micro_model, "max_new_tokens": 6, "device": "cpu"}
    with pytest.raises(InputError, match=r"4 of the patients .*--crossfit 5"):
        mmlnb.caption(out=tmp_path / "captions", adapter=tmp_path / "run", **describe)
    assert not (tmp_path / "captions").exists()
    mmlnb.caption(out=tmp_path / "captions", adapter=tmp_path / "run", splits=["val", "test"], **describe)
    assert len(read_captions(tmp_path / "captions")) == 4
