"""Describe patches with vLLM, where it is installed: the same prompt, adapter and rows as with transformers.

Written and tested against vLLM's documented interface (0.33); not yet run on a GPU.
"""

import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.atomic import digest
from data.errors import InputError
from vlm_finetune.collate import AnswerForm
from vlm_finetune.decoding import CUT, LOOP, Caption, Decoding, Request
from vlm_finetune.describer import Describer
from vlm_finetune.encode import apply_template, image_settings
from vlm_finetune.loop_guard import loop_start
from vlm_finetune.model import Checkpoint, find_adapter, load_processor
from vlm_finetune.prompt_encoder import PromptEncoder
from vlm_finetune.sampling import row_seed

# vLLM keeps adapters at one of these ranks.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_AT_ONCE = 1024
_CHECK_TOKENS = 8
# Parts of a model that vLLM serves without an adapter.
_NOT_LANGUAGE = re.compile(r"\.(?:visual|vision\w*|\w*projector|connector|merger|aligner)\.")


class VllmCaptioner(Describer):
    """Describes patches with vLLM's own scheduling on one GPU.

    Args:
        checkpoint: model, adapter and prompt.
        decoding: how text is drawn; vLLM's repetition penalty counts the words of the prompt as well.
        dtype: "auto", "float32", "bfloat16" or "float16".
        beside: names anything else that decides the text, for `key`.

    Raises:
        InputError: no vLLM, an adapter that it cannot serve or that has no effect, or a prompt that it reads otherwise.
    """

    def __init__(self, checkpoint: Checkpoint, *, decoding: Decoding, dtype: str = "auto", beside: str = "") -> None:
        if find_spec("vllm") is None:
            raise InputError(
                "--engine vllm: needs the package vllm, in an environment of its own (docs/captioning.md says how); "
                "or set --engine transformers"
            )
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self.prompt = checkpoint.prompt
        self.decoding = decoding
        self.batch_size = _AT_ONCE
        self.key = digest(
            "vllm", self.prompt.key, checkpoint.model_key, checkpoint.adapter_key, dtype, decoding.key, beside
        )
        self.processor = load_processor(checkpoint.folder, image_px=self.prompt.image_px)
        self.encoder = PromptEncoder(self.prompt, self.processor)
        self.text = apply_template(self.processor, self.prompt.messages(), tokenize=False, add_generation_prompt=True)
        self.end = AnswerForm.of(self.processor, self.prompt).end_id
        self.lora = None
        settings: dict[str, Any] = {}
        if checkpoint.adapter is not None:
            folder = find_adapter(checkpoint.adapter)
            settings = {"enable_lora": True, "max_loras": 1, "max_lora_rank": _served_rank(folder)}
            self.lora = LoRARequest("mmlnb", 1, str(folder))
        self.model = LLM(
            model=str(checkpoint.folder),
            dtype=dtype,
            load_format="safetensors",
            max_model_len=self.encoder.length + decoding.max_new_tokens,
            limit_mm_per_prompt={"image": 1},
            mm_processor_kwargs=image_settings(self.processor, self.prompt.image_px),
            **settings,
        )
        self._check(checkpoint)

    def write(self, requests: Iterator[Request[Any]]) -> Iterator[tuple[Request[Any], Caption]]:
        """Texts of `requests`, 1024 at a time."""
        while some := list(islice(requests, self.batch_size)):
            yield from zip(some, map(self._caption, self._ask(some)), strict=True)

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Refused: vLLM keeps what its vision tower makes to itself.

        Raises:
            InputError: always.
        """
        raise InputError("vLLM hands out no image embeddings; set --engine transformers")

    def _ask(self, requests: Sequence[Request[Any]], *, adapted: bool = True) -> list[Any]:
        """vLLM's outputs for `requests`, in their order."""
        prompts = [
            {
                "prompt": self.text,
                "multi_modal_data": {"image": Image.fromarray(self.prompt.resize(request.image))},
            }
            for request in requests
        ]
        settings = [self._settings(request) for request in requests]
        lora = self.lora if adapted else None
        return self.model.generate(prompts, settings, use_tqdm=False, lora_request=lora)

    def _settings(self, request: Request[Any]) -> Any:
        from vllm import SamplingParams

        decoding = request.decoding
        sampled = {}
        if decoding.temperature > 0:
            top_k = decoding.top_k or -1
            sampled = {"top_p": decoding.top_p, "top_k": top_k, "seed": row_seed(request.image, decoding.seed)}
        return SamplingParams(
            temperature=decoding.temperature,
            repetition_penalty=decoding.repetition_penalty,
            max_tokens=decoding.max_new_tokens,
            stop_token_ids=[self.end],
            # Of the token that was chosen, and of no other.
            logprobs=0,
            **sampled,
        )

    def _caption(self, output: Any) -> Caption:
        written = output.outputs[0]
        tokens = list(written.token_ids)
        flags: tuple[str, ...] = () if written.finish_reason == "stop" else (CUT,)
        for length in range(1, len(tokens) + 1):
            kept = loop_start(tokens[:length], max_repeats=self.decoding.max_repeats)
            if kept is not None:
                tokens, flags = tokens[:kept], (LOOP,)
                break
        logprobs = [step[token].logprob for step, token in zip(written.logprobs, tokens, strict=False)]
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        mean = sum(logprobs) / len(logprobs) if logprobs else float("nan")
        return Caption(text, len(tokens), mean, error=None if text else "the model wrote nothing", flags=flags)

    def _check(self, checkpoint: Checkpoint) -> None:
        """Make sure, on noise, that vLLM reads the prompt that training taught, and applies the adapter."""
        side = self.prompt.image_px
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        request = Request(None, noise, Decoding(max_new_tokens=_CHECK_TOKENS))
        (adapted,) = self._ask([request])
        expected = self.encoder.tokens["input_ids"][0].tolist()
        if list(adapted.prompt_token_ids) != expected:
            raise InputError(
                f"{checkpoint.folder}: vLLM reads the prompt as {len(adapted.prompt_token_ids)} tokens, which are not "
                f"the {len(expected)} of training; set --engine transformers"
            )
        if self.lora is None:
            return
        (base,) = self._ask([request], adapted=False)
        if self._caption(adapted) == self._caption(base):
            raise InputError(
                f"{checkpoint.adapter}: changes nothing of what vLLM writes; merge it with `mmlnb export-adapter`, or "
                "set --engine transformers"
            )


def _served_rank(adapter: Path) -> int:
    """Rank that vLLM has to be started with for `adapter`.

    Raises:
        InputError: it cannot serve it.
    """
    from safetensors import safe_open

    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(adapter / "adapter_model.safetensors", framework="np") as file:
        elsewhere = [name for name in file.keys() if _NOT_LANGUAGE.search(name)]  # noqa: SIM118
    rank = max([settings["r"], *settings.get("rank_pattern", {}).values()])
    reason = ""
    if settings.get("use_dora"):
        reason = "is a DoRA adapter"
    elif elsewhere:
        reason = f"reaches beyond the language model ({elsewhere[0]})"
    elif rank > _RANKS[-1]:
        reason = f"has rank {rank}, above {_RANKS[-1]}"
    if reason:
        raise InputError(
            f"{adapter}: {reason}, which vLLM does not serve; merge it with `mmlnb export-adapter` and give the result "
            "as --model, or set --engine transformers"
        )
    return next(one for one in _RANKS if one >= rank)
