"""A model whose processor or chat template cannot carry the task says so by name, before anything is trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data.errors import InputError
from vlm_finetune.collate import AnswerForm
from vlm_finetune.encode import encode_prompts
from vlm_finetune.model import find_model, load_processor
from vlm_finetune.prompt import PatchPrompt

PROMPT = PatchPrompt(system="You see tissue.", question="What is seen?", image_px=56)
Noise = Callable[[int], list[np.ndarray]]


@pytest.fixture
def processor(micro_model: str) -> Any:
    return load_processor(find_model(micro_model), image_px=56)


def test_a_template_without_a_place_for_the_image(processor: Any, noise: Noise) -> None:
    processor.chat_template = processor.chat_template.replace("<|image_pad|>", "")
    with pytest.raises(InputError, match=r"Qwen2_5_VLProcessor: .*image_pad.*chat_template\.jinja"):
        encode_prompts(noise(2), PROMPT, processor)


def test_a_template_that_refuses_a_system_message(processor: Any, noise: Noise) -> None:
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    processor.chat_template = refusal + processor.chat_template
    with pytest.raises(InputError, match=r"Qwen2_5_VLProcessor: .*System role not supported.*empty --system"):
        encode_prompts(noise(1), PROMPT, processor)
    with pytest.raises(InputError, match="empty --system"):
        AnswerForm.of(processor, PROMPT)
    encode_prompts(noise(1), PatchPrompt(system="", question="What is seen?", image_px=56), processor)


def test_no_template_at_all(processor: Any, noise: Noise) -> None:
    processor.chat_template = None
    with pytest.raises(InputError, match="Qwen2_5_VLProcessor: its chat template cannot take the prompt"):
        encode_prompts(noise(1), PROMPT, processor)


def test_a_template_that_opens_the_answer_otherwise_than_it_writes_it(processor: Any) -> None:
    processor.chat_template = processor.chat_template.replace("assistant\n", "assistant\n<think>\n")
    with pytest.raises(InputError, match=r"Qwen2_5_VLProcessor: .*does not continue the prompt with the answer"):
        AnswerForm.of(processor, PROMPT)


def test_a_tokenizer_without_padding_pads_with_its_end_token(micro_model: str, tmp_path: Any, noise: Noise) -> None:
    plain = load_processor(find_model(micro_model), image_px=56)
    plain.tokenizer.pad_token = None
    plain.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((find_model(micro_model) / "config.json").read_bytes())
    loaded = load_processor(tmp_path, image_px=56)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id
    assert len(encode_prompts(noise(2), PROMPT, loaded)["input_ids"]) == 2
