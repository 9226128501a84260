"""Two processes train one model: equal to each other, and to one process with the same batches."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from data.command import config_yaml
from fusion.curriculum import Stage
from fusion.train import train

STAGES = (
    Stage(name="image", epochs=1, freeze=("text",), alpha_from=0.3),
    Stage(name="joint", epochs=2, alpha_from=0.3, alpha_to=1.0, alpha_step=0.7),
    Stage(name="fusion", epochs=1, freeze=("image", "text")),
)

# Every process writes the hash of all its weights where a stage ends, from what it holds itself.
WATCH = """
import sys
from pathlib import Path
import fusion.fit as module
from data.command import parse_config
from fusion.config import TrainConfig
from fusion.model import fingerprint
from fusion.train import train

real = module.fit_stage

def watched(run, stage, **arguments):
    real(run, stage, **arguments)
    with (Path(sys.argv[2]) / f"rank-{run.accelerator.process_index}.txt").open("a") as file:
        file.write(f"{stage.name} {fingerprint(run.model)}\\n")

module.fit_stage = watched
train(parse_config(TrainConfig, ["--config", sys.argv[1]], name="train"))
"""


@pytest.mark.parametrize(
    ("image_tower", "rank"),
    [("tiny-image", 0), ("timm:lcnet_050", 0), ("tiny-image", 2)],
    ids=["group norm", "batch norm", "LoRA"],
)
def test_two_processes_stay_identical_through_freeze_and_unfreeze(
    image_tower: str, rank: int, make_config, tmp_path: Path
) -> None:
    # Without dropout, batch and rank are all that could make one process differ from two.
    config = make_config(tmp_path / "two", stages=STAGES, image_tower=image_tower, image_lora_rank=rank, dropout=0.0)
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    (tmp_path / "watch.py").write_text(WATCH)
    # Under --cpu accelerate starts one process whatever number is asked for; the configuration chooses the device.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "watch.py"), str(tmp_path / "config.yaml"), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [(tmp_path / f"rank-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert [line.split()[0] for line in ranks[0]] == ["image", "joint", "fusion"]
    assert ranks[0] == ranks[1]
    assert len(set(ranks[0])) == 3
    if image_tower != "tiny-image":
        return
    # The text tower's own dropout is drawn per process; where it is frozen, two processes equal one.
    one = train(make_config(tmp_path / "one", stages=STAGES[:1], image_lora_rank=rank, dropout=0.0))
    two = pd.read_csv(tmp_path / "two" / "history.csv").iloc[0]
    single = pd.read_csv(one / "history.csv").iloc[0]
    for column in ("loss", "loss_fused", "loss_image", "val_loss"):
        assert two[column] == pytest.approx(single[column], abs=2e-4), column
    assert load_file(tmp_path / "two" / "model" / "fusion.safetensors")
