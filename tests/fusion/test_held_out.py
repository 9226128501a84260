"""Training and evaluation are refused where test data were seen before; a clean set passes silently."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from data.caption_writers import CaptionWriter, write_writers
from data.errors import InputError
from data.manifest import read_manifest, write_manifest
from data.patch_hashes import with_hashes
from fusion.config import EvaluateConfig, TrainConfig
from fusion.curriculum import Stage
from fusion.evaluate import evaluate
from fusion.train import train

MakeConfig = Callable[..., TrainConfig]
QUICK = (Stage(name="image", epochs=1, freeze=("text",), alpha_from=0.3),)


def writer(trained: tuple[str, ...], chosen: tuple[str, ...] = ()) -> CaptionWriter:
    return CaptionWriter(model="tiny", adapter="adapter", weights="0" * 32, trained_on=trained, chosen_on=chosen)


@pytest.fixture
def data(dataset: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the data with hashes, described by a model that has seen the training patients."""
    home = shutil.copytree(dataset[0].parent, tmp_path / "data")
    manifest, captions = home / "patches.parquet", home / "captions"
    write_writers(captions, [writer(("train-UD", "train-PD", "train-D"), ("val-UD", "val-PD", "val-D"))])
    write_manifest(with_hashes(read_manifest(manifest), manifest), manifest)
    return manifest, captions


@pytest.fixture
def config(trained: Path, dataset: tuple[Path, Path], tmp_path: Path) -> EvaluateConfig:
    """Evaluation of the model that all tests share, on a copy of its data."""
    home = shutil.copytree(dataset[0].parent, tmp_path / "measured")
    write_writers(home / "captions", [writer(("train-UD",), ("val-UD",))])
    return EvaluateConfig(
        model=trained,
        manifest=home / "patches.parquet",
        captions=home / "captions",
        out=tmp_path / "eval",
        device="cpu",
    )


def edit(manifest: Path, patch: str, **values: object) -> None:
    frame = read_manifest(manifest)
    for column, value in values.items():
        frame.loc[frame["patch_id"] == patch, column] = value
    write_manifest(frame, manifest)


def train_on(data: tuple[Path, Path], make_config: MakeConfig, out: Path, **settings: object) -> Path:
    manifest, captions = data
    return train(make_config(out, manifest=manifest, captions=captions, stages=QUICK, **settings))


def test_a_clean_set_is_trained_and_measured_without_a_word(
    data: tuple[Path, Path],
    make_config: MakeConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manifest, captions = data
    model = train_on(data, make_config, tmp_path / "run")
    out = evaluate(
        EvaluateConfig(model=model, manifest=manifest, captions=captions, out=tmp_path / "eval", device="cpu")
    )
    assert all("have no text" in message for message in caplog.messages)
    smooth = int(read_manifest(manifest)["perceptual_hash"].isna().sum())
    assert json.loads((out / "leakage.json").read_text()) == {
        "split": "test",
        "patients": 3,
        "patches_of_no_known_patient": 0,
        "pictures": {"measured": 12, "seen": 48, "unreadable": 0, "too_smooth": smooth, "nearly_the_same": 0},
        "calibrated_on": "val",
        "captions": {"writers": 1, "unknown": 0},
    }


@pytest.mark.parametrize("quality", [None, 60])
def test_training_refuses_a_picture_of_another_split(
    data: tuple[Path, Path], make_config: MakeConfig, tmp_path: Path, quality: int | None
) -> None:
    manifest, _ = data
    images = manifest.parent / "patches"
    shutil.copy(images / "train-UD-0.png", images / "copy.png")
    if quality is not None:
        Image.open(images / "copy.png").save(images / "copy.jpg", quality=quality, subsampling=0)
        (images / "copy.jpg").rename(images / "copy.png")
    edit(manifest, "test-UD-1", image="patches/copy.png", pixel_hash=None, perceptual_hash=None)
    what = "holds the same pixels as" if quality is None else "is nearly the same picture as"
    with pytest.raises(InputError, match=f"patch test-UD-1 of the split test {what} train-UD-0 of the split train"):
        train_on(data, make_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    if quality is not None:
        train_on(data, make_config, tmp_path / "run", near_duplicates="allow")
        # What was allowed is no setting of the model: without it the finished run is the same one.
        train_on(data, make_config, tmp_path / "run")


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        (("train-UD", "test-PD"), "adapter, which wrote captions, was trained on patient test-PD of the split test"),
        (("val-D",), "was trained on patient val-D of the split val"),
    ],
)
def test_training_refuses_captions_of_an_adapter_that_saw_who_chooses_or_is_tested(
    data: tuple[Path, Path], make_config: MakeConfig, tmp_path: Path, patients: tuple[str, ...], message: str
) -> None:
    write_writers(data[1], [writer(("train-UD",)), writer(patients)])
    with pytest.raises(InputError, match=message):
        train_on(data, make_config, tmp_path / "run")
    train_on(data, make_config, tmp_path / "described", text_source="description")


def test_captions_that_name_a_class_and_sites_of_one_class_are_counted(
    data: tuple[Path, Path], make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, captions = data
    frame = read_manifest(manifest)
    frame["site"] = frame["label"].map({"UD": "north", "PD": "north", "D": "south"})
    write_manifest(frame, manifest)
    for part in captions.glob("part-*.parquet"):
        rows = pd.read_parquet(part)
        rows.loc[rows["patch_id"].isin(["train-UD-0", "val-D-1", "test-D-0"]), "text"] = "Looks like UD."
        rows.to_parquet(part)
    with caplog.at_level(logging.WARNING):
        model = train_on(data, make_config, tmp_path / "run")
    assert "leakage: 2 of 42 captions (5%) name a class outright (UD 2; in 1 it is their own)" in caplog.text
    assert "leakage: 1 of 2 sites have patients of one class only (south: D, 3 patients)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        evaluate(EvaluateConfig(model=model, manifest=manifest, captions=captions, out=tmp_path / "e", device="cpu"))
    assert "leakage: 1 of 12 captions (8%) name a class outright (UD 1; in 0 it is their own)" in caplog.text


@pytest.mark.parametrize("quality", [None, 60])
def test_a_tested_picture_that_the_model_was_trained_on_is_named_whatever_its_patient(
    config: EvaluateConfig, quality: int | None
) -> None:
    images = config.manifest.parent / "patches"
    Image.open(images / "val-PD-2.png").save(images / "copy.jpg", quality=quality or 95, subsampling=0)
    frame = read_manifest(config.manifest)
    # Another manifest, which holds nothing of what was trained on: the model itself tells of it.
    frame = frame[frame["split"] == "test"]
    copy = "patches/val-PD-2.png" if quality is None else "patches/copy.jpg"
    frame.loc[frame["patch_id"] == "test-PD-3", "image"] = copy
    write_manifest(frame, config.manifest)
    what = "holds the same pixels as" if quality is None else "is nearly the same picture as"
    with pytest.raises(
        InputError, match=rf"trained_on\.parquet: patch test-PD-3 of the split test {what} val-PD-2 of the split train"
    ):
        evaluate(config)
    assert not config.out.exists()
    if quality is not None:
        out = evaluate(replace(config, near_duplicates="allow"))
        assert json.loads((out / "leakage.json").read_text())["pictures"]["nearly_the_same"] == 1


def test_a_model_from_before_pictures_were_written_down_is_compared_within_the_manifest(
    config: EvaluateConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = shutil.copytree(config.model, tmp_path / "old")
    (model / "trained_on.parquet").unlink()
    with caplog.at_level(logging.WARNING):
        evaluate(replace(config, model=model))
    assert "trained_on.parquet: is missing, so pictures are compared within" in caplog.text
    edit(config.manifest, "test-UD-1", image="patches/train-UD-0.png")
    with pytest.raises(InputError, match="patch test-UD-1 of the split test holds the same pixels as train-UD-0"):
        evaluate(replace(config, model=model))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"split": "test", "temperatures": {"fused": 1, "image": 1, "text": 1}}',
            "were chosen on the split test, whic",
        ),
        ('{"temperatures": {"fused": 1, "image": 1, "text": 1}}', "does not say on which split its temperatures were"),
    ],
)
def test_a_temperature_that_was_chosen_on_test_data_is_refused(
    config: EvaluateConfig, tmp_path: Path, content: str, message: str
) -> None:
    model = shutil.copytree(config.model, tmp_path / "model")
    (model / "calibration.json").write_text(content)
    with pytest.raises(InputError, match=rf"calibration\.json: .*{message}.*; train the model again"):
        evaluate(replace(config, model=model))
    assert not config.out.exists()


def test_a_checkpoint_that_was_chosen_on_test_patients_is_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    model = shutil.copytree(config.model, tmp_path / "model")
    seen = json.loads((model / "trained_on.json").read_text())
    (model / "trained_on.json").write_text(json.dumps(seen | {"val": [*seen["val"], "test-UD"]}))
    with pytest.raises(InputError, match=r"patient test-UD of the split test was seen in training \(split val\)"):
        evaluate(replace(config, model=model))


@pytest.mark.parametrize(
    ("split", "named"), [("test", "chosen on patient test-D"), ("val", "trained on patient val-D")]
)
def test_text_by_an_adapter_that_saw_the_measured_patients_is_refused(
    config: EvaluateConfig, split: str, named: str
) -> None:
    assert config.captions is not None
    write_writers(config.captions, [writer(("train-D", "val-D"), ("test-D",))])
    with pytest.raises(InputError, match=f"adapter, which wrote captions, was {named} of the split {split}"):
        evaluate(replace(config, split=split))
    assert not config.out.exists()
    evaluate(replace(config, split=split, text_source="none", captions=None))


def test_a_model_trained_on_text_by_an_adapter_that_saw_the_measured_patients_is_refused(
    data: tuple[Path, Path], make_config: MakeConfig, tmp_path: Path
) -> None:
    manifest, captions = data
    write_writers(captions, [writer(("train-UD", "elsewhere"))])
    model = train_on(data, make_config, tmp_path / "run")
    frame = read_manifest(manifest)
    frame = frame[frame["split"] == "test"].replace({"patient_id": {"test-PD": "elsewhere"}})
    write_manifest(frame, manifest)
    measured = EvaluateConfig(
        model=model, manifest=manifest, text_source="none", captions=None, out=tmp_path / "eval", device="cpu"
    )
    with pytest.raises(
        InputError, match=r"run/writers\.json: adapter, which wrote captions, was trained on patient else"
    ):
        evaluate(measured)


def test_training_patches_may_be_measured_as_such(config: EvaluateConfig) -> None:
    out = evaluate(replace(config, split="train"))
    assert json.loads((out / "leakage.json").read_text())["pictures"] is None


def test_the_hashes_of_a_run_are_those_of_its_patches(trained: Path, dataset: tuple[Path, Path]) -> None:
    written = pd.read_parquet(trained / "trained_on.parquet")
    expected = with_hashes(read_manifest(dataset[0]), dataset[0])
    expected = expected[expected["split"] != "test"]
    pd.testing.assert_frame_equal(written, expected[list(written)].reset_index(drop=True).astype(written.dtypes))
