"""A training that is killed goes on to the very adapter that an undisturbed one ends with."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from data.atomic import write_text
from data.command import config_yaml
from data.errors import InputError
from vlm_finetune.checkpoints import newest_checkpoint
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.train import finetune

STEPS = 60


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        manifest=manifest,
        out=tmp_path / "killed",
        model=micro_model,
        system="",
        image_px=56,
        epochs=STEPS / 2,
        learning_rate=2e-2,
        batch_size=2,
        accumulation=2,
        lora_rank=4,
        # Dropout draws from the random state, which has to come back as it was.
        lora_dropout=0.2,
        max_length=200,
        evaluations=10,
        sample_tokens=6,
        checkpoint_seconds=0,
        device="cpu",
    )


def kill_once(config: FinetuneConfig, after: random.Random) -> bool:
    """Start a training, kill it a moment after it saved anything new, and say whether it was still running."""
    file = config.out.parent / "settings.yaml"
    write_text(file, config_yaml(config))
    before = newest_checkpoint(config.out, processes=1)
    child = subprocess.Popen(
        [sys.executable, "-m", "vlm_finetune.train", "--config", str(file)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=config.out.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while child.poll() is None and newest_checkpoint(config.out, processes=1) == before:
            time.sleep(0.002)
        # A step with its checkpoint takes some 30 ms, so that the kill often comes while one is written.
        time.sleep(after.uniform(0, 0.3))
        return child.poll() is None
    finally:
        child.kill()
        child.wait()


def check_same_end(config: FinetuneConfig, undisturbed: Path) -> None:
    out = finetune(config)
    for name in ("adapter/adapter_model.safetensors", "metrics.json", "samples.md"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    # The training loss is a mean since the last entry, and a resumed run knows only those after its checkpoint.
    tables = [pd.read_csv(folder / "history.csv").drop(columns="loss") for folder in (out, undisturbed)]
    pd.testing.assert_frame_equal(*tables)
    assert not (out / "checkpoints").exists()


def test_killed_in_the_middle_it_ends_with_the_same_bytes(config: FinetuneConfig, tmp_path: Path) -> None:
    undisturbed = finetune(replace(config, out=tmp_path / "undisturbed"))
    assert kill_once(config, random.Random(7))
    assert any((config.out / "checkpoints").iterdir())
    check_same_end(config, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("early_stopping", ["none", "loss", "finding_f1"])
def test_killed_again_and_again_it_ends_with_the_same_bytes(
    config: FinetuneConfig, early_stopping: str, tmp_path: Path
) -> None:
    config = replace(config, early_stopping=early_stopping, evaluations=30, patience=8, learning_rate=5e-2)  # type: ignore[arg-type]
    undisturbed = finetune(replace(config, out=tmp_path / "undisturbed"))
    after = random.Random(early_stopping)
    kills = 0
    while kill_once(config, after) and kills < 6:
        kills += 1
    assert kills > 1
    check_same_end(config, undisturbed)


def test_killed_right_after_it_had_stopped_early_it_does_not_train_on(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An evaluation at every step: the step that the Trainer takes before it looks whether to stop must not count.
    config = replace(config, early_stopping="loss", evaluations=STEPS, patience=2, learning_rate=5e-2)
    undisturbed = finetune(replace(config, out=tmp_path / "undisturbed"))
    assert json.loads((undisturbed / "metrics.json").read_text())["kept"]["steps"] < STEPS

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("vlm_finetune.train._measure", die)
        with pytest.raises(Killed):
            finetune(config)
    out = finetune(config)
    kept = [json.loads((folder / "metrics.json").read_text()) for folder in (out, undisturbed)]
    assert kept[0]["kept"]["step"] == kept[1]["kept"]["step"]
    assert kept[0]["val"] == kept[1]["val"]
    name = "adapter/adapter_model.safetensors"
    assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_run_is_not_taken_up_by_another_number_of_processes(config: FinetuneConfig) -> None:
    folder = config.out / "checkpoints" / "checkpoint-4"
    write_text(folder / "whole.json", json.dumps({"processes": 2}))
    with pytest.raises(InputError, match="begun with 2 processes, not 1"):
        newest_checkpoint(config.out, processes=1)
    assert newest_checkpoint(config.out, processes=2) == folder
