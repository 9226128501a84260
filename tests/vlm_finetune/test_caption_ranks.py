"""Two processes of `accelerate launch` share a manifest between them."""

import os
import subprocess
import sys
from pathlib import Path

from vlm_finetune.caption import caption, read_captions
from vlm_finetune.config import CaptionConfig


def test_two_processes_write_what_one_writes_and_no_row_twice(micro_model: str, manifest: Path, tmp_path: Path) -> None:
    alone = CaptionConfig(
        manifest=manifest, out=tmp_path / "one", model=micro_model, image_px=56, max_new_tokens=6, device="cpu"
    )
    one = read_captions(caption(alone)).set_index("patch_id").sort_index()
    # Under --cpu accelerate starts one process whatever number is asked for; --device decides where they run.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    settings = ["--manifest", str(manifest), "--out", str(tmp_path / "two"), "--model", micro_model, "--device", "cpu"]
    settings += ["--image_px", "56", "--max_new_tokens", "6", "--rows_per_part", "4"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "vlm_finetune.caption", *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name.split("-")[1] for path in (tmp_path / "two").glob("part-*.parquet")} == {"0", "1"}
    two = read_captions(tmp_path / "two").set_index("patch_id").sort_index()
    assert two[["text", "key", "tokens"]].equals(one[["text", "key", "tokens"]])
