"""What the captioner writes depends on the patch, the prompt and the model, and on nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import InputError
from vlm_finetune.captioner import Captioner, Decoding
from vlm_finetune.lora import LoraScope, add_lora
from vlm_finetune.model import find_model, folder_key, load_base, save_base
from vlm_finetune.prompt import PatchPrompt

PROMPT = PatchPrompt(system="", question="What is seen?", image_px=56)
Noise = Callable[[int], list[np.ndarray]]


def captioner(model: str, **settings: object) -> Captioner:
    settings = {"prompt": PROMPT, "decoding": Decoding(max_new_tokens=12), "device": "cpu"} | settings
    return Captioner(model=model, **settings)  # type: ignore[arg-type]


@pytest.fixture
def adapter(micro_model: str, tmp_path: Path) -> Path:
    """An adapter that changes what the micro model says, laid out as `finetune` does."""
    torch.manual_seed(0)
    scope = LoraScope(rank=4, alpha=8, dropout=0.0, modules=("q_proj", "v_proj", "up_proj"))
    model = add_lora(load_base(find_model(micro_model), dtype=torch.float32), scope)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path / "run" / "adapter")
    save_base(tmp_path / "run" / "adapter", name="micro", model_key=folder_key(Path(micro_model)))
    PROMPT.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_patch_gets_the_same_text_alone_and_in_a_batch(micro_model: str, noise: Noise, temperature: float) -> None:
    writer = captioner(micro_model, decoding=Decoding(max_new_tokens=12, temperature=temperature, top_k=20, top_p=0.9))
    together = writer.describe(noise(5))
    alone = [writer.describe([image])[0] for image in noise(5)]
    assert [caption.text for caption in together] == [caption.text for caption in alone]
    assert np.allclose([c.mean_logprob for c in together], [c.mean_logprob for c in alone], atol=1e-4)


def test_order_and_batch_size_change_nothing(micro_model: str, noise: Noise) -> None:
    images = noise(5)
    forwards = captioner(micro_model, batch_size=2).describe(images)
    backwards = captioner(micro_model, batch_size=5).describe(images[::-1])
    assert [caption.text for caption in forwards] == [caption.text for caption in backwards][::-1]


def test_the_log_probability_is_that_of_the_written_tokens(micro_model: str, noise: Noise) -> None:
    from vlm_finetune.encode import encode_prompts

    writer = captioner(micro_model)
    model, processor = writer.loaded.model, writer.loaded.processor
    compared = 0
    for image, caption in zip(noise(6), writer.describe(noise(6)), strict=True):
        inputs = encode_prompts([image], PROMPT, processor)
        start = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=caption.tokens, do_sample=False)
            if processor.image_token_id in ids[0, start:]:
                # An untrained model may write one, and cannot read it back.
                continue
            types = torch.zeros_like(ids)
            types[:, :start] = inputs["mm_token_type_ids"]
            inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}
            logprobs = model(**inputs).logits.log_softmax(-1)
        expected = logprobs[0, start - 1 : -1].gather(1, ids[0, start:, None]).mean()
        assert caption.mean_logprob == pytest.approx(float(expected), abs=1e-4)
        compared += 1
    assert compared


def test_generation_stops_at_the_limit(micro_model: str, noise: Noise) -> None:
    captions = captioner(micro_model, decoding=Decoding(max_new_tokens=3)).describe(noise(2))
    assert all(1 <= caption.tokens <= 3 for caption in captions)


def test_no_patches_give_no_captions(micro_model: str) -> None:
    assert captioner(micro_model).describe([]) == []


def test_the_adapter_changes_the_text_and_the_key(micro_model: str, adapter: Path, noise: Noise) -> None:
    base, tuned = captioner(micro_model), captioner(micro_model, adapter=adapter, prompt=None)
    assert tuned.prompt.key == PROMPT.key
    assert tuned.key != base.key
    assert [c.text for c in tuned.describe(noise(3))] != [c.text for c in base.describe(noise(3))]


def test_the_key_tells_data_types_apart_and_resolves_auto(micro_model: str) -> None:
    automatic, single, half = (captioner(micro_model, dtype=name).key for name in ("auto", "float32", "bfloat16"))
    assert automatic == single != half


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_captioner_on_a_gpu_that_is_not_here_is_refused(micro_model: str, device: str) -> None:
    with pytest.raises(InputError, match=f"--device {device}: not on this machine"):
        captioner(micro_model, device=device)


def test_an_adapter_of_another_prompt_is_refused(micro_model: str, adapter: Path) -> None:
    other = PatchPrompt(system="", question="Which organ?", image_px=56)
    with pytest.raises(InputError, match="another prompt"):
        captioner(micro_model, adapter=adapter, prompt=other)


def test_an_adapter_of_another_base_is_refused(micro_model: str, adapter: Path) -> None:
    (adapter / "adapter" / "base.json").write_text(json.dumps({"model": "other", "model_key": "0" * 32}))
    with pytest.raises(InputError, match="trained on other"):
        captioner(micro_model, adapter=adapter, prompt=None)


def test_an_adapter_with_a_tensor_missing_is_refused(micro_model: str, adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)
    with pytest.raises(InputError, match="do not match"):
        captioner(micro_model, adapter=adapter, prompt=None)


def test_a_damaged_adapter_is_named(micro_model: str, adapter: Path) -> None:
    path = adapter / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        captioner(micro_model, adapter=adapter, prompt=None)


def test_an_adapter_without_effect_is_refused(micro_model: str, adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({key: t * 0 if "lora_B" in key else t for key, t in tensors.items()}, path)
    with pytest.raises(InputError, match="changes nothing"):
        captioner(micro_model, adapter=adapter, prompt=None)


def test_a_model_that_is_not_here_is_named_with_the_command_that_fetches_it() -> None:
    with pytest.raises(InputError, match="mmlnb prefetch nobody/nothing"):
        captioner("nobody/nothing")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        captioner(str(tmp_path))


def test_the_tower_sees_the_size_that_the_prompt_names(micro_model: str, noise: Noise) -> None:
    from vlm_finetune.encode import encode_prompts
    from vlm_finetune.model import load_processor

    larger = PatchPrompt(system="", question="What is seen?", image_px=112)
    processor = load_processor(find_model(micro_model), image_px=112)
    assert encode_prompts(noise(1), larger, processor)["image_grid_thw"].tolist() == [[1, 8, 8]]
    with pytest.raises(InputError, match="--image_px"):
        encode_prompts(noise(1), PROMPT, processor)
