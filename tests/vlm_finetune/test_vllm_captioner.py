"""The vLLM engine writes the rows that transformers writes, with the adapter applied and the same prompt."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_vllm import LLM, SamplingParams, install

from data.captions import read_captions
from data.errors import InputError
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig
from vlm_finetune.lora import LoraScope, add_lora
from vlm_finetune.model import find_model, folder_key, load_base, save_base
from vlm_finetune.prompt import PatchPrompt


def save_adapter(model_folder: str, out: Path, **scope: object) -> Path:
    torch.manual_seed(0)
    settings = {"rank": 4, "alpha": 8, "dropout": 0.0, "modules": ("q_proj", "v_proj", "up_proj")} | scope
    model = add_lora(load_base(find_model(model_folder), dtype=torch.float32), LoraScope(**settings))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(out / "adapter")
    save_base(out / "adapter", name="micro", model_key=folder_key(Path(model_folder)))
    PatchPrompt(system="", question="What is seen?", image_px=56).save(out)
    return out


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    return install(monkeypatch)


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> Callable[..., CaptionConfig]:
    adapter = save_adapter(micro_model, tmp_path / "run")

    def make(name: str, **settings: object) -> CaptionConfig:
        given = {"model": micro_model, "adapter": adapter, "max_new_tokens": 24, "seen_patients": "allow"} | settings
        return CaptionConfig(manifest=manifest, out=tmp_path / name, **given)  # type: ignore[arg-type]

    return make


def test_both_engines_write_the_same_rows(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    expected = read_captions(caption(config("one"))).set_index("patch_id").sort_index()
    found = read_captions(caption(config("other", engine="vllm"))).set_index("patch_id").sort_index()
    same = ["text", "tokens", "error", "flags", "copy_of"]
    assert found[same].equals(expected[same])
    assert found["mean_logprob"].to_numpy() == pytest.approx(expected["mean_logprob"].to_numpy(), abs=1e-4)
    assert set(found["key"]).isdisjoint(expected["key"])
    assert llm.started["max_lora_rank"] == 8
    assert llm.started["limit_mm_per_prompt"] == {"image": 1}


def test_without_an_adapter_none_is_asked_for(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    settings = {"adapter": None, "image_px": 56}
    expected = read_captions(caption(config("one", **settings))).set_index("patch_id")
    found = read_captions(caption(config("other", engine="vllm", **settings))).set_index("patch_id")
    assert found["text"].to_dict() == expected["text"].to_dict()
    assert not llm.started["enable_lora"]


def test_a_sampled_row_has_its_own_seed(
    llm: type[LLM], config: Callable[..., CaptionConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SamplingParams] = []
    whole = llm.generate

    def generate(self: LLM, prompts: object, sampling_params: list[SamplingParams], **settings: object) -> object:
        asked.extend(sampling_params)
        return whole(self, prompts, sampling_params, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(llm, "generate", generate)
    frame = read_captions(caption(config("out", engine="vllm", alternatives=2, top_k=5)))
    assert {len(texts) for texts in frame["alternatives"]} == {2}
    drawn = [how for how in asked if how.temperature > 0]
    assert len({how.seed for how in drawn}) == len(drawn) == 24
    assert {(how.temperature, how.top_k) for how in drawn} == {(0.7, 5)}


def test_an_adapter_that_vllm_ignores_is_found_out(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    llm.ignores_adapter = True
    with pytest.raises(InputError, match="changes nothing of what vLLM writes"):
        caption(config("out", engine="vllm"))
    assert not config("out").out.exists()


def test_a_prompt_that_vllm_reads_otherwise_is_found_out(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    llm.extra_prompt = "Look. "
    with pytest.raises(InputError, match="vLLM reads the prompt as"):
        caption(config("out", engine="vllm"))


@pytest.mark.parametrize(
    ("scope", "reason"),
    [({"vision": True}, "reaches beyond the language model"), ({"variant": "dora"}, "is a DoRA adapter")],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused(
    llm: type[LLM],
    micro_model: str,
    config: Callable[..., CaptionConfig],
    tmp_path: Path,
    scope: dict[str, object],
    reason: str,
) -> None:
    adapter = save_adapter(micro_model, tmp_path / "other", **scope)
    with pytest.raises(InputError, match=f"{reason}.*export-adapter"):
        caption(config("out", engine="vllm", adapter=adapter))


def test_a_rank_above_all_is_refused(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    path = config("out").adapter / "adapter" / "adapter_config.json"  # type: ignore[operator]
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"r": 1024}))
    with pytest.raises(InputError, match="has rank 1024"):
        caption(config("out", engine="vllm"))


def test_where_vllm_is_not_installed_the_remedy_is_named(config: Callable[..., CaptionConfig]) -> None:
    with pytest.raises(InputError, match="--engine vllm: needs the package vllm"):
        caption(config("out", engine="vllm"))


def test_what_needs_image_embeddings_is_refused(llm: type[LLM], config: Callable[..., CaptionConfig]) -> None:
    with pytest.raises(InputError, match="--dedupe: vLLM hands out no image embeddings"):
        caption(config("out", engine="vllm", dedupe=0.9))
