"""Two processes of `accelerate launch` train the adapter that one trains with the same global batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from data.atomic import write_text
from data.command import config_yaml
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.train import finetune


def test_two_processes_train_the_adapter_of_one(micro_model: str, manifest: Path, tmp_path: Path) -> None:
    one = FinetuneConfig(
        manifest=manifest,
        out=tmp_path / "one",
        model=micro_model,
        system="",
        image_px=56,
        epochs=10,
        learning_rate=1e-2,
        batch_size=2,
        accumulation=2,
        lora_rank=4,
        lora_dropout=0.0,
        max_length=200,
        evaluations=5,
        early_stopping="finding_f1",
        patience=5,
        sample_tokens=6,
        checkpoint_seconds=0,
        # Sums in another order differ by more than the tolerance in bfloat16.
        dtype="float32",
        device="cpu",
    )
    # The descriptions differ in length: a mean per process and batch would weigh the short ones more.
    finetune(one)
    two = replace(one, out=tmp_path / "two", batch_size=1)
    write_text(tmp_path / "two.yaml", config_yaml(two))
    # Under --cpu accelerate starts one process whatever number is asked for; --device decides where they run.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "vlm_finetune.train", "--config", str(tmp_path / "two.yaml")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name = Path("adapter") / "adapter_model.safetensors"
    alone, shared = (load_file(run.out / name) for run in (one, two))
    start = finetune(replace(one, out=tmp_path / "start", learning_rate=1e-12, epochs=1, early_stopping="none")) / name
    # How far training moved the weights, against which the difference is small.
    moved = sum(float((alone[key] - value).square().sum()) for key, value in load_file(start).items()) ** 0.5
    apart = sum(float((alone[key] - value).square().sum()) for key, value in shared.items()) ** 0.5
    print(f"apart / moved: {apart / moved:.2e}")
    assert apart < 1e-3 * moved
    kept = [json.loads((run.out / "metrics.json").read_text()) for run in (one, two)]
    assert kept[0]["kept"] == kept[1]["kept"]
    assert kept[0]["val"]["per_finding"] == kept[1]["val"]["per_finding"]
