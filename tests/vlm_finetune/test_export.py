"""A merged model says what base and adapter say together, or it is not written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import InputError
from vlm_finetune.captioner import Captioner, Decoding
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.export import export_adapter
from vlm_finetune.export_config import ExportConfig
from vlm_finetune.train import finetune


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        manifest=manifest,
        out=tmp_path / "run",
        model=micro_model,
        system="",
        image_px=56,
        epochs=15,
        learning_rate=2e-2,
        batch_size=4,
        accumulation=1,
        lora_rank=8,
        lora_alpha=16,
        max_length=200,
        sample_tokens=4,
        device="cpu",
    )


@pytest.mark.parametrize("variant", ["lora", "dora", "rslora"])
def test_the_merged_model_writes_what_the_adapter_writes(
    config: FinetuneConfig, variant: str, tmp_path: Path, noise: Callable[[int], list[np.ndarray]]
) -> None:
    run = finetune(replace(config, lora_variant=variant, lora_vision=True, lora_projector=True))  # type: ignore[arg-type]
    out = export_adapter(ExportConfig(adapter=run, out=tmp_path / "merged", device="cpu"))
    parity = json.loads((out / "parity.json").read_text())
    assert parity["relative_error"] < 1e-4
    assert parity["differing_captions"] == 0
    decoding = Decoding(max_new_tokens=24)
    adapted = Captioner(model=config.model, adapter=run, decoding=decoding, device="cpu")
    merged = Captioner(model=str(out), decoding=decoding, device="cpu")
    base = Captioner(model=config.model, prompt=adapted.prompt, decoding=decoding, device="cpu")
    texts = [[caption.text for caption in writer.describe(noise(4))] for writer in (adapted, merged, base)]
    assert texts[0] == texts[1] != texts[2]
    card = (out / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "research use only" in card
    assert not list(out.glob("*.bin"))
    assert not (out / "trained_on.json").exists()


@pytest.fixture
def run(config: FinetuneConfig) -> Path:
    return finetune(replace(config, epochs=2))


def test_a_base_in_half_precision_stays_so_and_its_rounding_is_measured(
    config: FinetuneConfig, micro_model: str, tmp_path: Path
) -> None:
    from vlm_finetune.model import load_base, load_processor

    half = tmp_path / "half"
    load_base(Path(micro_model), dtype=torch.bfloat16).save_pretrained(half)
    load_processor(Path(micro_model), image_px=56).save_pretrained(half)
    run = finetune(replace(config, model=str(half)))
    settings = ExportConfig(adapter=run, out=tmp_path / "merged", device="cpu", caption_tolerance=1)
    out = export_adapter(settings)
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    error = json.loads((out / "parity.json").read_text())["relative_error"]
    assert 1e-4 < error < 0.05
    with pytest.raises(InputError, match=r"more than --tolerance 0\.0001"):
        export_adapter(replace(settings, out=tmp_path / "refused", tolerance=1e-4))
    assert not (tmp_path / "refused").exists()


def test_a_merge_that_went_wrong_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Model

    save = Model.save_pretrained

    def damage(self: Model, folder: Path, **settings: object) -> None:
        save(self, folder)
        tensors = load_file(folder / "model.safetensors")
        name = next(name for name in tensors if name.endswith("q_proj.weight"))
        save_file(tensors | {name: tensors[name] * 2}, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(Model, "save_pretrained", damage)
    with pytest.raises(InputError, match="keep the adapter beside its base"):
        export_adapter(ExportConfig(adapter=run, out=tmp_path / "merged", device="cpu"))
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_exported_is_named(run: Path, config: FinetuneConfig, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    with pytest.raises(InputError, match=r"holds no adapter"):
        export_adapter(ExportConfig(adapter=tmp_path / "images", out=out))
    with pytest.raises(InputError, match="exists already"):
        export_adapter(ExportConfig(adapter=run, out=run))
    with pytest.raises(InputError, match="which is not this tiny"):
        export_adapter(ExportConfig(adapter=run, out=out, model="tiny"))
    whole = finetune(replace(config, out=tmp_path / "whole", tune="full", epochs=1))
    with pytest.raises(InputError, match="trained as a whole"):
        export_adapter(ExportConfig(adapter=whole, out=out))


def test_nothing_is_pushed_offline_or_under_a_name_that_is_none(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    with pytest.raises(InputError, match="--push someone/model: HF_HUB_OFFLINE is set"):
        export_adapter(ExportConfig(adapter=run, out=out, push="someone/model"))
    for name in ("model", "a/b/c", "some one/model"):
        with pytest.raises(InputError, match="give OWNER/NAME"):
            export_adapter(ExportConfig(adapter=run, out=out, push=name))
    assert not out.exists()


def test_pushing_sends_the_merged_folder_and_only_when_asked(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    sent: dict[str, set[str]] = {}

    class Hub:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            assert private

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
            sent[repo_id] = {path.name for path in folder_path.iterdir()}
            return repo_id

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    settings = ExportConfig(adapter=run, out=tmp_path / "kept", device="cpu", images=1)
    export_adapter(settings)
    assert not sent
    export_adapter(replace(settings, out=tmp_path / "pushed", push="someone/model"))
    # Neither patients nor pictures.
    assert {"config.json", "model.safetensors", "prompt.json", "README.md", "parity.json"} <= sent["someone/model"]
    assert not {"split.json", "trained_on.json", "samples.md", "data.json"} & sent["someone/model"]
