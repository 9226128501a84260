"""Fine-tuning: what comes out is what was trained, and bad input is named before a model is loaded."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.command import make_config
from data.errors import InputError
from vlm_finetune.captioner import Captioner, Decoding
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.train import finetune


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> Callable[..., FinetuneConfig]:
    def make(**settings: object) -> FinetuneConfig:
        defaults: dict[str, object] = {
            "manifest": manifest,
            "out": tmp_path / "run",
            "model": micro_model,
            "system": "",
            "image_px": 56,
            "epochs": 30,
            "learning_rate": 2e-2,
            "batch_size": 4,
            "accumulation": 1,
            "lora_rank": 8,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "max_length": 200,
            "sample_tokens": 8,
        }
        return FinetuneConfig(**defaults | settings)  # type: ignore[arg-type]

    return make


def test_training_lowers_the_loss_and_leaves_an_adapter_that_captions(
    config: Callable[..., FinetuneConfig], micro_model: str, tmp_path: Path
) -> None:
    from PIL import Image

    out = finetune(config(evaluations=2))
    metrics = json.loads((out / "metrics.json").read_text())
    # An untrained model of 420 tokens starts at 6.
    assert metrics["val"]["loss"] < 3
    assert metrics["val"]["per_finding"]
    assert metrics["train"] == {"pairs": 8, "shortened": 0}
    assert json.loads((out / "trained_on.json").read_text())["patients"] == [f"patient-{n}" for n in range(4)]
    assert "p8" in (out / "samples.md").read_text()
    assert not (out / "checkpoints").exists()
    # The adapter names its base as it was asked for, and the adapted text is that of the training.
    writer = Captioner(model=micro_model, adapter=out, decoding=Decoding(max_new_tokens=30), device="cpu")
    import numpy as np

    text = writer.describe([np.asarray(Image.open(tmp_path / "images" / "0.png"))])[0].text
    assert any(word in text for word in ("cellularity", "neuropil", "rosettes"))


def test_images_kept_in_memory_train_the_adapter_that_images_read_at_every_step_train(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    name = "adapter/adapter_model.safetensors"
    kept, read, other = (
        load_file(finetune(config(epochs=3, dtype="float32", out=tmp_path / out, **settings)) / name)
        for out, settings in (
            ("kept", {"cache_images": True}),
            ("read", {"cache_images": False}),
            ("other", {"cache_images": True, "seed": 1}),
        )
    )
    assert all(torch.allclose(kept[key], value, atol=1e-4) for key, value in read.items())
    assert not all(torch.allclose(kept[key], value, atol=1e-2) for key, value in other.items())


def test_a_finished_run_is_not_repeated_and_another_one_is_refused(config: Callable[..., FinetuneConfig]) -> None:
    out = finetune(config(epochs=1))
    before = (out / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    finetune(config(epochs=1))
    assert (out / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another --out"):
        finetune(config(epochs=2))


def test_another_taxonomy_or_base_under_the_same_name_is_another_run(
    config: Callable[..., FinetuneConfig], micro_model: str, tmp_path: Path
) -> None:
    from data.taxonomy import load_taxonomy

    taxonomy, base = tmp_path / "tumour.yaml", tmp_path / "base"
    taxonomy.write_text(load_taxonomy().source)
    shutil.copytree(micro_model, base)
    given = config(epochs=1, taxonomy=str(taxonomy), model=str(base))
    finetune(given)
    content = taxonomy.read_text()
    taxonomy.write_text(content + "# a remark changes nothing\n")
    finetune(given)
    taxonomy.write_text(content.replace("tissue: ", "tissue: another ", 1))
    with pytest.raises(InputError, match="other settings or inputs"):
        finetune(given)
    taxonomy.write_text(content)
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(settings | {"changed": True}))
    with pytest.raises(InputError, match="other settings or inputs"):
        finetune(given)


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [1, 2 / 3, 1 / 3]), ("cosine", [1, 0.75, 0.25])])
def test_the_learning_rate_falls_as_the_schedule_says(
    config: Callable[..., FinetuneConfig], schedule: str, shares: list[float]
) -> None:
    out = finetune(config(epochs=3, batch_size=8, learning_rate=1e-4, warmup_share=0.0, schedule=schedule))
    with (out / "history.csv").open(newline="") as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([1e-4 * share for share in shares])
    assert f"({schedule}, warm-up 0)" in (out / "adapter" / "README.md").read_text()


def test_a_mark_that_was_cut_short_is_named(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"key": "0a')
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        finetune(config())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_here_is_named(config: Callable[..., FinetuneConfig]) -> None:
    with pytest.raises(InputError, match="--device cuda: not on this machine"):
        finetune(config(device="cuda"))


def test_the_same_seed_gives_the_same_adapter(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    first, second = (finetune(config(epochs=1, out=tmp_path / name)) for name in ("a", "b"))
    name = Path("adapter") / "adapter_model.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_descriptions_that_are_too_long_are_counted(config: Callable[..., FinetuneConfig], micro_model: str) -> None:
    out = finetune(config(epochs=1, max_length=47 + 10))
    assert json.loads((out / "metrics.json").read_text())["train"]["shortened"] > 0


def test_an_empty_description_is_named(
    config: Callable[..., FinetuneConfig], edit_manifest: Callable[..., Path]
) -> None:
    path = edit_manifest("p3", description="  ")
    with pytest.raises(InputError, match=rf"{path.name}.*p3"):
        finetune(config())


def test_a_missing_image_is_named(config: Callable[..., FinetuneConfig], manifest: Path) -> None:
    (manifest.parent / "images" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        finetune(config())


def test_no_training_rows_is_an_error(
    config: Callable[..., FinetuneConfig], edit_manifest: Callable[..., Path], manifest: Path
) -> None:
    for index in range(8):
        edit_manifest(f"p{index}", description=None)
    with pytest.raises(InputError, match="split train"):
        finetune(config())


def test_a_folder_with_other_files_is_refused(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        finetune(config())


@pytest.mark.parametrize("preset", ["tiny", "qwen2.5-vl-7b"])
def test_the_other_presets_load(preset: str, tmp_path: Path) -> None:
    make_config(FinetuneConfig, name="finetune", config=preset, manifest=tmp_path / "m", out=tmp_path)
