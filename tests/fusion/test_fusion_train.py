"""Training from files to a model folder: it learns, goes on where it stopped, and refuses what it cannot use."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from data.errors import InputError
from data.manifest import read_manifest, write_manifest
from data.precision_state import forget_precision
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.train import train
from fusion.validation import gate_quantiles

SHORT = (Stage(name="image", epochs=1, freeze=("text",), alpha_from=0.3), Stage(name="joint", epochs=2))


def edited(config: TrainConfig, folder: Path, **columns: object) -> TrainConfig:
    """The same data with the columns of the first training row changed."""
    frame = read_manifest(config.manifest)
    for column, value in columns.items():
        frame.at[0, column] = value
    frame["image"] = [str((config.manifest.parent / image).resolve()) for image in frame["image"]]
    write_manifest(frame, folder / "patches.parquet")
    return replace(config, manifest=folder / "patches.parquet", out=folder / "run")


def test_training_learns_and_leaves_a_whole_folder(trained: Path) -> None:
    run = json.loads((trained / "run.json").read_text())
    assert run["finished"] and run["val_balanced_accuracy"]["fused"] >= 0.9
    assert run["patches"] == {"train": 36, "val": 12} and run["missing_text"] == 6
    assert {path.name for path in trained.iterdir()} == {
        "calibration.json",
        "config.yaml",
        "history.csv",
        "model",
        "run.json",
        "taxonomy.yaml",
        "trained_on.json",
        "trained_on.parquet",
    }
    assert json.loads((trained / "trained_on.json").read_text()) == {
        split: [f"{split}-{label}" for label in ("D", "PD", "UD")] for split in ("train", "val")
    }
    suffixes = {path.suffix for path in (trained / "model").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_the_precision_of_a_training_before_does_not_reach_into_this_one(
    make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from accelerate import Accelerator

    alone = train(make_config(tmp_path / "alone", stages=SHORT[:1]))
    try:
        forget_precision()
        assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
        after = train(make_config(tmp_path / "after", stages=SHORT[:1]))
    finally:
        forget_precision()
    assert (alone / "history.csv").read_text() == (after / "history.csv").read_text()


def test_history_shows_alpha_and_stages_advance(trained: Path) -> None:
    history = pd.read_csv(trained / "history.csv")
    assert list(history["stage"]) == ["image"] * 2 + ["joint"] * 4 + ["fusion"] * 2
    assert list(history["alpha"]) == [0.3, 0.3, 0.3, 0.65, 1.0, 1.0, 1.0, 1.0]
    assert list(history["epoch"]) == list(range(1, 9))


def test_history_tells_where_the_gate_of_the_patches_with_a_text_lies(trained: Path) -> None:
    history = pd.read_csv(trained / "history.csv")
    quantiles = history[[f"val_gate_q{share}" for share in ("05", "25", "50", "75", "95")]].to_numpy()
    # A patch without a text has a gate of 0, and would show as the lowest.
    assert (quantiles > 0).all() and (quantiles < 1).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert len({tuple(row) for row in quantiles}) > 1
    assert gate_quantiles(np.linspace(0, 1, 101, dtype=np.float32))["val_gate_q25"] == 0.25
    assert set(gate_quantiles(np.zeros(0, dtype=np.float32)).values()) == {None}


def test_the_last_stages_best_epoch_by_validation_is_the_one_that_is_kept(trained: Path) -> None:
    history = pd.read_csv(trained / "history.csv").iloc[-2:]
    best = history.sort_values(["val_balanced_accuracy", "val_loss"], ascending=[False, True]).iloc[0]
    run = json.loads((trained / "run.json").read_text())
    assert (run["best_epoch"], run["best_stage"]) == (best["epoch"], best["stage"])
    assert run["val_balanced_accuracy"]["fused"] == best["val_balanced_accuracy"]


def test_the_resolved_configuration_reads_back(trained: Path) -> None:
    from data.command import parse_config

    again = parse_config(TrainConfig, ["--config", str(trained / "config.yaml")], name="train")
    assert [stage.name for stage in again.stages] == ["image", "joint", "fusion"] and again.out == trained


def test_a_finished_run_is_not_trained_again(trained: Path, make_config, capsys: pytest.CaptureFixture[str]) -> None:
    weights = trained / "model" / "fusion.safetensors"
    written = weights.stat().st_mtime_ns
    train(make_config(trained, workers=2))
    assert weights.stat().st_mtime_ns == written
    assert "already trained" in capsys.readouterr().out


def test_a_folder_of_another_run_is_refused_with_what_differs(trained: Path, make_config) -> None:
    with pytest.raises(InputError, match=r"holds another run \(seed, dropout differ|dropout, seed differ"):
        train(make_config(trained, seed=1, dropout=0.5))


def test_a_folder_with_other_files_is_refused(tmp_path: Path, make_config) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match="holds files that are not of a training run"):
        train(make_config(tmp_path))


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_a_run_that_was_cut_off_ends_with_the_weights_of_one_that_was_not(
    killed_after: int, trained: Path, make_config, train_cut_off, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run")
    train_cut_off(config, killed_after)
    train(config)
    for name in ("model/fusion.safetensors", "history.csv", "calibration.json", "run.json"):
        assert (config.out / name).read_bytes() == (trained / name).read_bytes(), name


def test_frozen_towers_do_not_move(make_config, tmp_path: Path) -> None:
    stages = (Stage(name="fusion", epochs=2, freeze=("image", "text")),)
    first = train(make_config(tmp_path / "a", stages=stages))
    second = train(make_config(tmp_path / "b", stages=stages, learning_rate=1e-2))
    weights = [load_file(run / "model" / "fusion.safetensors") for run in (first, second)]
    same = {name for name in weights[0] if weights[0][name].equal(weights[1][name])}
    assert {name.partition(".")[0] for name in same} == {"image_tower", "text_tower"}
    assert {name.partition(".")[0] for name in set(weights[0]) - same} == {"block"}


def test_images_read_on_demand_give_the_same_weights_as_images_in_memory(make_config, tmp_path: Path) -> None:
    runs = [
        train(make_config(tmp_path / str(memory), stages=SHORT, image_memory_gb=memory, workers=0))
        for memory in (4.0, 0.0)
    ]
    held, streamed = (run / "model" / "fusion.safetensors" for run in runs)
    assert held.read_bytes() == streamed.read_bytes()


def test_without_any_text_the_robust_block_is_an_image_classifier(make_config, tmp_path: Path) -> None:
    out = train(make_config(tmp_path / "run", text_source="none", captions=None, stages=SHORT))
    run = json.loads((out / "run.json").read_text())
    assert run["missing_text"] == 48 and run["val_balanced_accuracy"]["text"] is None


def test_descriptions_can_stand_in_for_captions(make_config, tmp_path: Path) -> None:
    out = train(make_config(tmp_path / "run", text_source="description", captions=None, stages=SHORT))
    assert json.loads((out / "run.json").read_text())["missing_text"] == 0


def test_the_paper_block_trains_too(make_config, tmp_path: Path) -> None:
    out = train(
        make_config(
            tmp_path / "run", block="prmf-paper", text_dropout=0.0, text_swap_across=0.0, gate_loss=0.0, stages=SHORT
        )
    )
    assert json.loads((out / "model" / "fusion.json").read_text())["block"] == "prmf-paper"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_here_is_named(make_config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--device cuda: not on this machine"):
        train(make_config(tmp_path / "run", device="cuda"))


def test_a_label_outside_the_taxonomy_is_named(make_config, tmp_path: Path) -> None:
    config = edited(make_config(tmp_path / "run"), tmp_path, label="GNB")
    with pytest.raises(
        InputError, match=r"patches\.parquet: patch train-UD-0 has the label GNB, which is none of UD, PD, D"
    ):
        train(config)


def test_an_image_that_is_gone_is_named(make_config, tmp_path: Path) -> None:
    config = edited(make_config(tmp_path / "run"), tmp_path, image="patches/gone.png")
    with pytest.raises(InputError, match=r"gone\.png: no such image"):
        train(config)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_rows_is_named(make_config, tmp_path: Path, split: str) -> None:
    config = make_config(tmp_path / "run")
    frame = read_manifest(config.manifest)
    write_manifest(frame[frame["split"] != split], tmp_path / "patches.parquet")
    with pytest.raises(InputError, match=f"no rows with split {split}"):
        train(replace(config, manifest=tmp_path / "patches.parquet"))


def test_captions_of_other_patches_are_refused(make_config, tmp_path: Path) -> None:
    pd.DataFrame({"patch_id": ["x"], "text": ["cells"], "error": [None]}).to_parquet(tmp_path / "part-0.parquet")
    with pytest.raises(InputError, match="no text for any patch"):
        train(make_config(tmp_path / "run", captions=tmp_path))


def test_captions_must_be_given_where_they_are_the_source(make_config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="captions: give the folder"):
        train(make_config(tmp_path / "run", captions=None))


def test_missing_weights_stop_a_run_before_it_writes_or_reads(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    config = make_config(tmp_path / "run", image_tower="vgg16", pretrained=True)
    with pytest.raises(InputError, match=r"vgg16 are not on this machine; fetch them with `mmlnb prefetch vgg16`"):
        train(replace(config, manifest=tmp_path / "absent.parquet"))
    assert not config.out.exists()


def test_the_same_settings_give_the_same_bytes(trained: Path, make_config, tmp_path: Path) -> None:
    again = train(make_config(tmp_path / "run"))
    for name in ("model/fusion.safetensors", "model/text_tower/tokenizer.json", "history.csv", "run.json"):
        assert (again / name).read_bytes() == (trained / name).read_bytes(), name
    shutil.rmtree(again)


def test_a_launcher_that_shares_out_the_weights_is_refused(
    make_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(InputError, match=r"FSDP is for models .* configs/accelerate/ddp\.yaml"):
        train(make_config(tmp_path / "run", stages=SHORT))
    assert not (tmp_path / "run").exists()
