"""A stand-in for the package vllm: its documented interface (0.33), with transformers behind it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from vlm_finetune.lora import quiet_peft
from vlm_finetune.model import load_base, load_processor


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class SamplingParams:
    """The fields that are used here; any other is an error, as it is in vLLM."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    repetition_penalty: float = 1.0
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None
    logprobs: int | None = None


@dataclass
class Logprob:
    logprob: float


@dataclass
class CompletionOutput:
    text: str
    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]


class LLM:
    """One prompt at a time, by hand; what it was started with is kept in `started`."""

    started: ClassVar[dict[str, Any]]
    extra_prompt: str = ""
    ignores_adapter: bool = False

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        load_format: str,
        max_model_len: int,
        limit_mm_per_prompt: dict[str, int],
        mm_processor_kwargs: dict[str, Any],
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
    ) -> None:
        type(self).started = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.model = load_base(Path(model), dtype=torch.float32)
        self.adapted: Any = None
        side = int(mm_processor_kwargs["size"]["shortest_edge"] ** 0.5)
        self.processor = load_processor(Path(model), image_px=side)

    def generate(
        self,
        prompts: Sequence[dict[str, Any]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        assert len(prompts) == len(sampling_params)
        return [self._one(prompt, how, lora_request) for prompt, how in zip(prompts, sampling_params, strict=True)]

    @torch.inference_mode()
    def _one(self, prompt: dict[str, Any], how: SamplingParams, lora: LoRARequest | None) -> RequestOutput:
        assert set(prompt) == {"prompt", "multi_modal_data"}
        image = prompt["multi_modal_data"]["image"]
        assert isinstance(image, Image.Image)
        assert how.stop_token_ids is not None
        assert how.max_tokens is not None
        text = self.extra_prompt + prompt["prompt"]
        inputs = dict(self.processor(text=[text], images=[image], return_tensors="pt"))
        model = self._model(lora)
        ids = model.generate(
            **inputs,
            max_new_tokens=how.max_tokens,
            do_sample=False,
            eos_token_id=how.stop_token_ids,
            output_logits=True,
            return_dict_in_generate=True,
        )
        start = inputs["input_ids"].shape[1]
        tokens = ids.sequences[0, start:].tolist()
        logprobs = [
            {token: Logprob(float(scores[0].float().log_softmax(-1)[token]))}
            for token, scores in zip(tokens, ids.logits, strict=True)
        ]
        ended = tokens[-1] in how.stop_token_ids
        written = CompletionOutput(
            self.processor.tokenizer.decode(tokens), tuple(tokens), logprobs, "stop" if ended else "length"
        )
        return RequestOutput(inputs["input_ids"][0].tolist(), [written])

    def _model(self, lora: LoRARequest | None) -> Any:
        from peft import PeftModel

        if lora is None or self.ignores_adapter:
            return self.model
        if self.adapted is None:
            base = load_base(Path(self.started["model"]), dtype=torch.float32)
            with quiet_peft():
                self.adapted = PeftModel.from_pretrained(base, lora.lora_path).eval()
        return self.adapted


def install(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Make `import vllm` find this stand-in; what is set on the class that is returned lasts for one test."""

    class Fresh(LLM):
        pass

    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.__dict__.update(LLM=Fresh, SamplingParams=SamplingParams, lora=lora)
    request.__dict__.update(LoRARequest=LoRARequest)
    for name, module in {"vllm": vllm, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("vlm_finetune.vllm_captioner.find_spec", lambda _: True)
    return Fresh
