"""The paper's protocol runs on data in its layout, by the commands of docs/paper.md and with no setting changed."""

import contextlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from data.command import config_yaml, make_config
from data.manifest import read_manifest
from fusion.config import TrainConfig
from fusion.train import setup
from mmlnb.cli import main
from vlm_finetune.caption import read_captions
from vlm_finetune.config import CaptionConfig, FinetuneConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "paper.md"
GIVEN = {
    "finetune": (FinetuneConfig, {"model"}),
    "caption": (CaptionConfig, {"model", "adapter"}),
    "train": (TrainConfig, {"image_tower", "text_tower", "captions"}),
}
"""What the page gives on the command line beside manifest and output folder."""
PUBLISHED = {"accuracy", "balanced_accuracy", "kappa", "weighted_f1", "precision", "recall", "auroc", "confusion"}
# One pass of everything, and texts of a few words.
FEWER = {
    "synth": ["--patch-px", "64", "--workers", "1"],
    "finetune": ["--epochs", "1", "--evaluations", "1", "--sample-patches", "1", "--sample-tokens", "4", "--workers=0"],
    "caption": ["--max-new-tokens", "4"],
    "train": ["--stages", '[{"name": "image", "epochs": 1}, {"name": "fusion", "epochs": 1, "freeze": [image, text]}]'],
}


@dataclass(frozen=True)
class Block:
    """One block of the page that can be run."""

    language: str
    text: str


def blocks() -> list[Block]:
    """The commands and the Python of the page, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [Block(language, text) for language, text in found if language != "text"]


def run_page(folder: Path, further: Mapping[str, list[str]]) -> list[str]:
    """Run the page's blocks in `folder`, each command with its `further` options; returns the commands' names."""
    names = []
    with contextlib.chdir(folder):
        for block in blocks():
            if block.language == "python":
                exec(compile(block.text, str(PAGE), "exec"), {})
                continue
            for line in block.text.splitlines():
                program, name, *options = shlex.split(line)
                assert program == "mmlnb"
                assert main([name, *options, *further.get(name, [])]) == 0, line
                names.append(name)
    return names


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the page's commands were run with fewer epochs and tokens."""
    folder = tmp_path_factory.mktemp("short")
    assert run_page(folder, FEWER) == ["synth", "prepare", "finetune", "caption", "train", "evaluate"]
    return folder


def test_every_patch_of_the_papers_folders_goes_through_all_stages(short: Path) -> None:
    listed = {path.parent.name: len(pd.read_csv(path)) for path in (short / "data").glob("*/descriptions.csv")}
    assert listed == {"NBPath-7.5K": 36, "NBITP-1.5K": 12}
    frame = read_manifest(short / "patches.parquet")
    assert len(frame) == 48
    assert frame["description"].notna().sum() == 12
    captions = read_captions(short / "captions")
    assert sorted(captions["patch_id"]) == sorted(frame["patch_id"])
    assert captions["error"].isna().all()
    predictions = pd.read_parquet(short / "evaluated" / "predictions.parquet")
    assert set(predictions["patch_id"]) == set(frame.loc[frame["split"] == "test", "patch_id"])


def test_no_patient_that_is_measured_was_seen_by_either_model(short: Path) -> None:
    measured = set(pd.read_parquet(short / "evaluated" / "predictions.parquet")["patient_id"])
    writer = json.loads((short / "finetuned" / "trained_on.json").read_text())["patients"]
    classifier = json.loads((short / "trained" / "trained_on.json").read_text())
    assert len(measured) == 3
    assert not measured & {*writer, *classifier["train"], *classifier["val"]}


def test_the_measures_of_the_paper_are_all_there(short: Path) -> None:
    measured = json.loads((short / "evaluated" / "metrics.json").read_text())
    assert measured["classes"] == ["UD", "PD", "D"]
    for arm in ("image_only", "fused"):
        assert {name for name in PUBLISHED if measured[arm][name] is None} == set()


def test_the_adapter_is_of_the_papers_rank_and_in_the_language_model_alone(short: Path) -> None:
    adapter = short / "finetuned" / "adapter"
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["lora_dropout"]) == (64, 16, 0.05)
    assert settings["bias"] == "none"
    weights = load_file(adapter / "adapter_model.safetensors")
    layers = {name.partition(".lora_")[0] for name in weights}
    assert {name.rpartition(".")[2] for name in layers} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert all(".language_model." in name for name in layers)
    assert {tensor.shape[0] for name, tensor in weights.items() if "lora_A" in name} == {64}


def test_the_optimiser_steps_as_adam_does(short: Path, tmp_path: Path) -> None:
    towers = {"image_tower": "tiny-image", "text_tower": "tiny-text"}
    given: dict[str, Any] = {"manifest": short / "patches.parquet", "captions": short / "captions", **towers}
    run = setup(make_config(TrainConfig, name="train", config="paper", out=tmp_path / "run", **given))
    assert run is not None
    own = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    copies = [parameter.detach().clone().requires_grad_() for parameter in own]
    adam = torch.optim.Adam(copies, lr=1e-4)
    torch.manual_seed(0)
    for _ in range(3):
        for parameter, copy in zip(own, copies, strict=True):
            parameter.grad = torch.randn_like(parameter)
            copy.grad = parameter.grad.clone()
        run.optimizer.step()
        adam.step()
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(own, copies, strict=True))


@pytest.mark.slow
def test_the_protocol_runs_with_no_setting_changed_but_the_models(tmp_path: Path) -> None:
    run_page(tmp_path, {})
    for command, out in (("finetune", "finetuned"), ("caption", "captions"), ("train", "trained")):
        config_class, given = GIVEN[command]
        preset = make_config(config_class, name=command, config="paper", manifest="patches.parquet", out=out)
        used = yaml.safe_load((tmp_path / out / "config.yaml").read_text())
        differing = {name for name, value in yaml.safe_load(config_yaml(preset)).items() if used[name] != value}
        assert differing == given
        assert used.keys() == asdict(preset).keys()

    steps = pd.read_csv(tmp_path / "finetuned" / "history.csv")
    assert list(steps["learning_rate"]) == pytest.approx([1e-4, 8e-5, 6e-5, 4e-5, 2e-5])
    epochs = pd.read_csv(tmp_path / "trained" / "history.csv")
    assert list(epochs["stage"]) == ["image"] * 50 + ["joint"] * 50 + ["fusion"] * 50
    rising = [0.3, 0.44, 0.58, 0.72, 0.86]
    assert list(epochs["alpha"]) == [0.3] * 50 + [alpha for alpha in rising for _ in range(10)] + [1.0] * 50
    assert epochs["loss_image"][49] < epochs["loss_image"][0]
    assert epochs["loss_fused"][149] < 0.8 * epochs["loss_fused"][0]
    metrics = json.loads((tmp_path / "evaluated" / "metrics.json").read_text())
    assert (metrics["split"], metrics["patients"], metrics["fused"]["patches"]) == ("test", 3, 12)
