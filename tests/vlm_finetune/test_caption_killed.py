"""Captioning killed at any moment, and gone on with by another number of processes, loses no row and doubles none."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.captions import read_captions
from data.manifest import COLUMNS, write_manifest
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig

PATCHES = 240


@pytest.fixture
def many(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = []
    (tmp_path / "images").mkdir()
    for index in range(PATCHES):
        name = f"images/{index}.png"
        Image.fromarray(rng.integers(0, 256, (56, 56, 3), dtype=np.uint8)).save(tmp_path / name)
        rows.append(dict.fromkeys(COLUMNS) | {"patch_id": f"p{index}", "image": name, "label": "UD", "split": "test"})
    write_manifest(pd.DataFrame(rows), tmp_path / "patches.parquet")
    return tmp_path / "patches.parquet"


def start(config: CaptionConfig, *, processes: int) -> subprocess.Popen[bytes]:
    settings = ["--manifest", str(config.manifest), "--out", str(config.out), "--model", config.model]
    settings += ["--image_px", "56", "--max_new_tokens", str(config.max_new_tokens), "--device", "cpu"]
    settings += ["--batch_size", str(config.batch_size), "--rows_per_part", str(config.rows_per_part)]
    launch = ["-m", "vlm_finetune.caption"]
    if processes > 1:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
        launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["--main_process_port", "0", "-m", "vlm_finetune.caption"]
    return subprocess.Popen(
        [sys.executable, *launch, *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Its own group, so that the kill reaches the processes that the launcher started.
        start_new_session=True,
    )


def parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def kill_after_progress(config: CaptionConfig, *, processes: int, chance: random.Random) -> bool:
    """Start, kill at a random moment after some parts more, and say whether it was still at work."""
    before = parts(config.out)
    process = start(config, processes=processes)
    wanted = before + chance.randint(0, 4)
    deadline = time.monotonic() + 120
    while parts(config.out) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.15))
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    return running


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_row_is_written_once_whatever_is_killed(micro_model: str, many: Path, tmp_path: Path, kills: int) -> None:
    config = CaptionConfig(
        manifest=many,
        out=tmp_path / "killed",
        model=micro_model,
        image_px=56,
        max_new_tokens=12,
        batch_size=4,
        rows_per_part=4 if kills < 10 else 2,
        device="cpu",
    )
    chance = random.Random(kills)
    cut_off = sum(kill_after_progress(config, processes=1 + attempt % 2, chance=chance) for attempt in range(kills))
    assert cut_off >= kills // 2, "the runs ended before they were killed; nothing was tested"
    assert start(config, processes=1).wait(timeout=240) == 0
    written = sum(pq.read_metadata(path).num_rows for path in config.out.glob("part-*.parquet"))
    assert written == PATCHES
    killed = read_captions(config.out).set_index("patch_id").sort_index()
    whole = CaptionConfig(
        manifest=many, out=tmp_path / "whole", model=micro_model, image_px=56, max_new_tokens=12, device="cpu"
    )
    expected = read_captions(caption(whole)).set_index("patch_id").sort_index()
    assert killed[["text", "key", "tokens", "flags"]].equals(expected[["text", "key", "tokens", "flags"]])
