"""How a training ends: at its best evaluation, at a loss that is not a number, out of memory, or as planned."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.errors import InputError
from vlm_finetune.captioner import Captioner
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.train import finetune


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        manifest=manifest,
        out=tmp_path / "run",
        model=micro_model,
        system="",
        image_px=56,
        epochs=20,
        learning_rate=2e-2,
        batch_size=4,
        accumulation=1,
        lora_rank=8,
        lora_alpha=16,
        lora_dropout=0.0,
        max_length=200,
        sample_tokens=12,
        device="cpu",
    )


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("measure", ["loss", "finding_f1"])
def test_it_stops_where_the_validation_no_longer_improves_and_keeps_the_best(
    config: FinetuneConfig, measure: str
) -> None:
    # A rate this high learns the training pairs by heart, and then only gets worse on others.
    config = replace(config, learning_rate=5e-2, evaluations=20, early_stopping=measure, patience=2)  # type: ignore[arg-type]
    out = finetune(config)
    metrics = json.loads((out / "metrics.json").read_text())
    rows = [row for row in history(out) if row["val_loss"]]
    column, choose = ("val_loss", min) if measure == "loss" else ("finding_f1", max)
    values = [float(row[column]) for row in rows]
    kept = metrics["kept"]
    assert kept["steps"] < 40
    assert len(values) == values.index(choose(values)) + 1 + 2
    assert kept["which"] == "best"
    assert kept["measure"] == measure
    assert kept["value"] == choose(values)
    assert kept["step"] == int(rows[-3]["step"])
    assert metrics["val"]["loss"] == float(rows[-3]["val_loss"])
    assert metrics["val"]["macro_f1"] == float(rows[-3]["finding_f1"])
    # A run that is told to end at that step, on the same schedule, cannot be had; but the same one without stopping
    # ends elsewhere.
    last = finetune(replace(config, out=config.out.with_name("last"), early_stopping="none"))
    assert any(not torch.equal(value, weights(last)[name]) for name, value in weights(out).items())
    assert json.loads((last / "metrics.json").read_text())["kept"] == {"which": "last", "step": 40, "steps": 40}


def test_the_kept_adapter_is_that_of_the_best_evaluation(config: FinetuneConfig) -> None:
    out = finetune(replace(config, learning_rate=5e-2, evaluations=10, early_stopping="loss", patience=2))
    step = json.loads((out / "metrics.json").read_text())["kept"]["step"]
    # What the saved adapter writes about the validation patches is what was written at that step.
    assert (out / "samples.md").read_text() == (out / "samples" / f"step-{step:06d}.md").read_text().replace(
        "../../images", "../images"
    )
    others = {path.read_text().partition("\n")[2] for path in (out / "samples").glob("step-*.md")}
    assert len(others) > 1


def test_stopping_early_needs_something_to_choose_from(
    config: FinetuneConfig, edit_manifest: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match="--evaluations"):
        replace(config, early_stopping="loss")
    for patch in ("p8", "p9"):
        edit_manifest(patch, description="Nothing to be said.")
    with pytest.raises(InputError, match="early_stopping loss"):
        finetune(replace(config, early_stopping="finding_f1", evaluations=2))
    for patch in ("p8", "p9"):
        edit_manifest(patch, description=None)
    with pytest.raises(InputError, match="split val"):
        finetune(replace(config, early_stopping="loss", evaluations=2))


def test_validation_patches_without_any_finding_are_no_obstacle(
    config: FinetuneConfig, edit_manifest: Callable[..., Path]
) -> None:
    for patch in ("p8", "p9"):
        edit_manifest(patch, description="Nothing to be said.")
    out = finetune(replace(config, epochs=1))
    assert json.loads((out / "metrics.json").read_text())["val"]["macro_f1"] is None


def test_the_samples_show_each_picture_beside_its_text(config: FinetuneConfig, tmp_path: Path) -> None:
    out = finetune(replace(config, epochs=2, evaluations=2))
    pages = [out / "samples.md", *sorted((out / "samples").iterdir())]
    assert [page.name for page in pages] == ["samples.md", "step-000002.md", "step-000004.md"]
    for page in pages:
        pictures = [cell.partition('"')[0] for cell in page.read_text().split('src="')[1:]]
        assert [(page.parent / picture).resolve() for picture in pictures] == [
            tmp_path / "images" / "8.png",
            tmp_path / "images" / "9.png",
        ]


def test_a_loss_that_is_not_a_number_stops_with_the_patches_of_the_batch(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Model

    forward, calls = Model.forward, 0

    def overflow(self: Any, *arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        output = forward(self, *arguments, **settings)
        # The second batch of the second step.
        output.logits = output.logits * (float("nan") if calls == 4 else 1)
        return output

    monkeypatch.setattr(Model, "forward", overflow)
    with pytest.raises(InputError, match=r"nan_batch\.json: the loss of step 2 is not finite.*--learning_rate"):
        finetune(replace(config, batch_size=1, accumulation=2))
    noted = json.loads((config.out / "nan_batch.json").read_text())
    assert noted["step"] == 2
    assert len(set(noted["patch_ids"])) == 2
    assert set(noted["patch_ids"]) <= {f"p{index}" for index in range(8)}


def test_a_gradient_that_is_not_a_number_stops_before_the_weights_move(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Model

    forward = Model.forward

    def steep(self: Any, *arguments: Any, **settings: Any) -> Any:
        output = forward(self, *arguments, **settings)
        if self.training:
            # Finite itself, with an infinite slope.
            zero = (output.logits - output.logits.detach()).abs()
            output.logits = output.logits + zero.sqrt()
        return output

    monkeypatch.setattr(Model, "forward", steep)
    with pytest.raises(InputError, match="the gradient of step 1 is not finite"):
        finetune(config)


def test_running_out_of_memory_names_the_settings_to_change(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Model

    # What torch itself says when a petabyte is not to be had.
    monkeypatch.setattr(Model, "forward", lambda *arguments, **settings: torch.empty(2**50))
    with pytest.raises(
        InputError, match=r"--batch_size 4; try --batch_size 2 --accumulation 2 .*--gradient_check"
    ) as e:
        finetune(config)
    assert "\n" not in str(e.value)


def test_trackers_are_refused_by_name_or_written_to(config: FinetuneConfig) -> None:
    with pytest.raises(InputError, match=r"--trackers nosuch: unknown; the Trainer knows.*tensorboard"):
        finetune(replace(config, trackers=("nosuch",)))
    with pytest.raises(InputError, match="--trackers neptune: its package is not installed"):
        finetune(replace(config, trackers=("neptune",)))
    assert not config.out.exists()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = finetune(replace(config, epochs=2, evaluations=2, trackers=("tensorboard",)))
    logged = events.EventAccumulator(str(out / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Scalars("eval/finding_f1")] == [2, 4]


def test_the_run_folder_says_what_was_trained_on_what(config: FinetuneConfig, manifest: Path) -> None:
    from data.taxonomy import load_taxonomy

    out = finetune(replace(config, epochs=1))
    assert json.loads((out / "split.json").read_text()) == {
        "train": [f"patient-{index}" for index in range(4)],
        "val": ["patient-4"],
    }
    data = json.loads((out / "data.json").read_text())
    assert {name: (split["pairs"], split["patients"]) for name, split in data.items()} == {
        "train": (8, 4),
        "val": (2, 1),
    }
    assert load_taxonomy(out / "taxonomy.yaml").key == load_taxonomy().key
    assert json.loads((out / "versions.json").read_text())["torch"] == torch.__version__.partition("+")[0]
    card = (out / "adapter" / "README.md").read_text()
    assert "research use only" in card
    assert "| train | 8 | 4 |" in card
    assert "patient-0" not in card
    # Another picture under the same name is another run.
    (manifest.parent / "images" / "0.png").write_bytes((manifest.parent / "images" / "1.png").read_bytes())
    with pytest.raises(InputError, match="other settings or inputs"):
        finetune(replace(config, epochs=1))


@pytest.mark.parametrize("variant", ["dora", "rslora"])
def test_other_kinds_of_lora_train_and_caption(
    config: FinetuneConfig, variant: str, micro_model: str, noise: Callable[[int], list[Any]]
) -> None:
    out = finetune(replace(config, epochs=2, lora_variant=variant, lora_vision=True, lora_vision_rank=3))  # type: ignore[arg-type]
    saved = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert saved[f"use_{variant}"]
    ranks = {"visual" in name: value.shape[0] for name, value in weights(out).items() if name.endswith("lora_A.weight")}
    assert ranks == {True: 3, False: 8}
    assert any("magnitude" in name for name in weights(out)) == (variant == "dora")
    assert Captioner(model=micro_model, adapter=out, device="cpu").describe(noise(1))


def test_gradient_checkpointing_trains_the_same_adapter(config: FinetuneConfig) -> None:
    given = replace(config, epochs=2, evaluations=2)
    plain = finetune(given)
    other = finetune(replace(given, out=config.out.with_name("other"), gradient_checkpointing=True))
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-4, atol=1e-6)


def test_settings_that_have_no_effect_are_refused(config: FinetuneConfig) -> None:
    with pytest.raises(InputError, match="--lora_vision_rank 4: has no effect without --lora_vision"):
        replace(config, lora_vision_rank=4)
    with pytest.raises(InputError, match=r"--lora_variant.*--tune full"):
        replace(config, tune="full", lora_variant="dora")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_four_bits_are_refused_without_cuda(config: FinetuneConfig) -> None:
    with pytest.raises(InputError, match="--quantise 4bit: needs CUDA, not cpu"):
        finetune(replace(config, quantise="4bit"))


def test_a_model_trained_as_a_whole_captions_by_its_folder(
    config: FinetuneConfig, micro_model: str, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    out = finetune(replace(config, tune="full", learning_rate=3e-3))
    assert not (out / "adapter").exists()
    assert json.loads((out / "metrics.json").read_text())["val"]["loss"] < 3
    before = load_file(Path(micro_model) / "model.safetensors")
    after = load_file(out / "model" / "model.safetensors")
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith("q_proj.weight"))
    # It asks what it was trained to answer, and nothing else.
    writer = Captioner(model=str(out / "model"), device="cpu")
    assert writer.prompt == PatchPrompt.load(out)
    with pytest.raises(InputError, match="trained with another prompt"):
        Captioner(model=str(out / "model"), prompt=replace(writer.prompt, question="And now?"), device="cpu")
    text = writer.describe([np.asarray(Image.open(tmp_path / "images" / "0.png"))])[0].text
    assert any(word in text for word in ("cellularity", "neuropil", "rosettes"))
