"""By every shipped configuration, two processes train the adapter that one process trains."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from data.atomic import write_text
from data.command import config_yaml
from vlm_finetune.captioner import Captioner
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.train import finetune

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "accelerate"
WEIGHTS = Path("adapter") / "adapter_model.safetensors"

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed (mmlnb[deepspeed])"
)


def launch(kind: str, config: FinetuneConfig, *, processes: int = 2) -> None:
    """Train under `accelerate launch` with a shipped configuration."""
    settings = config.out.with_suffix(".yaml")
    write_text(settings, config_yaml(config))
    command = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{kind}.yaml")]
    command += ["--num_processes", str(processes), "--main_process_port", "0"]
    program = (
        ["-m", "vlm_finetune.train"] if kind == "ddp-cpu" else [str(Path(__file__).with_name("sharded_on_cpu.py"))]
    )
    done = subprocess.run(
        [sys.executable, *command, *program, "--config", str(settings)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def of_one(micro_model: str, manifest: Path, tmp_path: Path) -> FinetuneConfig:
    """Settings of a finished training on one process."""
    config = FinetuneConfig(
        manifest=manifest,
        out=tmp_path / "one",
        model=micro_model,
        system="",
        image_px=56,
        epochs=8,
        learning_rate=1e-2,
        batch_size=2,
        accumulation=2,
        lora_rank=4,
        lora_dropout=0.0,
        max_length=200,
        evaluations=3,
        early_stopping="loss",
        sample_patches=3,
        sample_tokens=6,
        checkpoint_seconds=0,
        # Sums in another order differ by more than the tolerance in bfloat16.
        dtype="float32",
        device="cpu",
    )
    finetune(config)
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "ddp-cpu",
        "fsdp",
        pytest.param("deepspeed-zero2", marks=needs_deepspeed),
        pytest.param("deepspeed-zero3", marks=needs_deepspeed),
    ],
)
def test_two_processes_train_the_adapter_of_one_and_write_it_whole(
    kind: str, of_one: FinetuneConfig, tmp_path: Path
) -> None:
    two = replace(of_one, out=tmp_path / "two", batch_size=1)
    launch(kind, two)
    alone, shared = (load_file(run.out / WEIGHTS) for run in (of_one, two))
    assert {name: value.shape for name, value in shared.items()} == {name: v.shape for name, v in alone.items()}
    start = load_file(finetune(replace(of_one, out=tmp_path / "start", learning_rate=1e-12, epochs=1)) / WEIGHTS)
    moved = sum(float((alone[key] - value).square().sum()) for key, value in start.items()) ** 0.5
    apart = sum(float((alone[key] - value).square().sum()) for key, value in shared.items()) ** 0.5
    print(f"{kind}: apart / moved: {apart / moved:.2e}")
    assert apart < 1e-3 * moved
    losses = [pd.read_csv(run.out / "history.csv") for run in (of_one, two)]
    for column in ("loss", "val_loss"):
        assert list(losses[1][column].dropna()) == pytest.approx(list(losses[0][column].dropna()), rel=1e-3)
    training = losses[1]["loss"].dropna()
    assert training.iloc[-1] < 0.8 * training.iloc[0]
    # It has the whole effect that it had on one process.
    patches = list(np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8))
    texts = [
        [one.text for one in Captioner(model=two.model, adapter=run.out, device="cpu").describe(patches)]
        for run in (of_one, two)
    ]
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_weights_that_were_trained_in_shards_are_written_whole(of_one: FinetuneConfig, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"tune": "full", "learning_rate": 1e-3, "early_stopping": "none", "epochs": 2}
    one = replace(of_one, out=tmp_path / "full", **settings)
    two = replace(of_one, out=tmp_path / "two", batch_size=1, **settings)
    finetune(one)
    launch("fsdp", two)
    weights = [load_file(run.out / "model" / "model.safetensors") for run in (one, two)]
    assert weights[0].keys() <= weights[1].keys()
    for name, value in weights[0].items():
        assert value.shape == weights[1][name].shape
        assert float((value - weights[1][name]).abs().max()) < 1e-3, name


KINDS: dict[str, Callable[[Any], bool]] = {
    "ddp-cpu": lambda arguments: arguments.multi_gpu,
    "ddp": lambda arguments: arguments.multi_gpu,
    "fsdp": lambda arguments: arguments.use_fsdp,
    "deepspeed-zero2": lambda arguments: arguments.use_deepspeed,
    "deepspeed-zero3": lambda arguments: arguments.use_deepspeed,
}


def test_every_shipped_configuration_is_listed_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_launcher_reads_a_configuration_as_what_its_name_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    path = CONFIGS / f"{kind}.yaml"
    given = launch_command_parser().parse_args(
        ["--config_file", str(path), "--main_process_port", "0", "-m", "vlm_finetune.train"]
    )
    arguments, defaults, _ = _validate_launch_command(given)
    assert KINDS[kind](arguments)
    assert sum((arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed)) == 1
    assert arguments.num_processes == (2 if kind == "ddp-cpu" else 8)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        environment = prepare_deepspeed_cmd_env(arguments)[1]
        assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == kind[-1]
        assert environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == "auto"
        assert environment.get("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL") == (None if kind[-1] == "2" else "true")
        return
    environment = prepare_multi_gpu_env(arguments)
    assert (environment.get("ACCELERATE_USE_FSDP") == "true") == (kind == "fsdp")
    if kind == "fsdp":
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.reshard_after_forward is True
        assert "SHARDED" in str(plugin.state_dict_type)
