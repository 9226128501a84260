"""Two processes train one model: equal to each other, and to one process with the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_encoders import small

from data.command import config_yaml
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.towers import find_tower
from fusion.train import train

# Steps so large that the first stage ends early, and its best epoch goes on.
STAGES = (
    Stage(name="image", epochs=20, freeze=("text",), alpha_from=0.3, learning_rate=0.1, patience=1),
    Stage(name="joint", epochs=2, alpha_from=0.3, alpha_to=1.0, alpha_step=0.7),
    Stage(name="fusion", epochs=1, freeze=("image", "text")),
)
BACK_AND_FORTH = (
    Stage(name="image", epochs=1, freeze=("text",), alpha_from=0.3),
    Stage(name="fusion", epochs=1, freeze=("image", "text"), alpha_from=0.5),
    Stage(name="joint", epochs=2, alpha_from=0.3, alpha_to=1.0, alpha_step=0.7, text_learning_rate=1e-3),
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


def train_on_two(config: TrainConfig, folder: Path) -> list[list[str]]:
    """Train on two processes; returns, for each of them, every stage's name with the hash of the weights at its end."""
    (folder / "config.yaml").write_text(config_yaml(config))
    (folder / "watch.py").write_text(WATCH)
    # Under --cpu accelerate starts one process whatever number is asked for; the configuration chooses the device.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, *launch, str(folder / "watch.py"), str(folder / "config.yaml"), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [(folder / f"rank-{rank}.txt").read_text().splitlines() for rank in (0, 1)]


@pytest.mark.parametrize(
    "image_tower",
    ["tiny-image", "timm:lcnet_050"],
    ids=["group norm", "batch norm"],
)
def test_two_processes_stay_identical_through_freeze_unfreeze_and_an_early_end(
    image_tower: str, make_config, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "two", stages=STAGES, image_tower=image_tower)
    ranks = train_on_two(config, tmp_path)
    assert [line.split()[0] for line in ranks[0]] == ["image", "joint", "fusion"]
    assert ranks[0] == ranks[1]
    assert len(set(ranks[0])) == 3
    first = pd.read_csv(config.out / "history.csv").query("stage == 'image'")
    assert len(first) < STAGES[0].epochs and list(first.query("kept")["epoch"]) == [len(first) - 1]


@pytest.mark.parametrize("rank", [0, 2], ids=["whole towers", "LoRA"])
def test_two_processes_equal_one_through_freeze_and_unfreeze(
    rank: int, make_config, described: Path, tmp_path: Path
) -> None:
    # Without dropout, batch and rank are all that could make one process differ from two.
    tower = tmp_path / "text-tower"
    small(find_tower("bert-base-uncased", modality="text"), tower)
    settings = json.loads((tower / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tower / "config.json").write_text(json.dumps(settings | still))
    model = {"text_tower": str(tower), "pretrained": True, "dropout": 0.0, "image_lora_rank": rank}
    texts = {"manifest": described, "text_source": "description", "captions": None}
    drawn = {"balance": "sampler", "augment": ("image", "text"), "stages": BACK_AND_FORTH}
    two = make_config(tmp_path / "two", **model, **texts, **drawn)
    ranks = train_on_two(two, tmp_path)
    assert ranks[0] == ranks[1]
    one = train(make_config(tmp_path / "one", **model, **texts, **drawn))
    histories = [pd.read_csv(out / "history.csv") for out in (two.out, one)]
    for column in ("loss", "loss_fused", "loss_image", "loss_text", "val_loss", "val_stage_loss"):
        assert list(histories[0][column]) == pytest.approx(list(histories[1][column]), abs=2e-4), column
    weights = [load_file(out / "model" / "fusion.safetensors") for out in (two.out, one)]
    for name, tensor in weights[0].items():
        # Twelve steps of Adam carry every weight some 0.02 away from where it was.
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-3, rtol=0, msg=lambda text, name=name: name + text)
