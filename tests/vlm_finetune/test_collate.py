"""Labels cover the answer and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from data.errors import InputError
from vlm_finetune.collate import IGNORED, AnswerForm, Collator, encode_answer, join
from vlm_finetune.encode import encode_prompts
from vlm_finetune.model import find_model, load_processor
from vlm_finetune.prompt import PatchPrompt

PROMPT = PatchPrompt(system="You are a pathologist.", question="What is seen?", image_px=56)
LONG, SHORT = "Abundant neuropil, low cellularity; no necrosis.", "High cellularity."


@pytest.fixture
def batch(micro_model: str, noise: Callable[[int], list[np.ndarray]]) -> tuple[dict[str, torch.Tensor], object]:
    processor = load_processor(find_model(micro_model), image_px=56)
    form = AnswerForm.of(processor, PROMPT)
    examples = [
        join(encode_prompts([image], PROMPT, processor), encode_answer(text, form, processor, room=100))
        for image, text in zip(noise(2), (LONG, SHORT), strict=True)
    ]
    return Collator(pad_id=processor.tokenizer.pad_token_id)(examples), processor


def test_the_decoded_labels_are_the_answer_with_its_end_of_turn(batch) -> None:
    tensors, processor = batch
    decoded = [processor.tokenizer.decode(row[row != IGNORED]) for row in tensors["labels"]]
    assert decoded == [f"{LONG}<|im_end|>", f"{SHORT}<|im_end|>"]


def test_labels_stand_where_their_tokens_stand(batch) -> None:
    tensors, _ = batch
    trained = tensors["labels"] != IGNORED
    assert torch.equal(tensors["labels"][trained], tensors["input_ids"][trained])


def test_the_whole_text_is_what_the_chat_template_writes(batch) -> None:
    tensors, processor = batch
    written = processor.tokenizer.decode(tensors["input_ids"][0][tensors["attention_mask"][0].bool()])
    expected = processor.apply_chat_template(PROMPT.messages(LONG), tokenize=False).rstrip("\n")
    assert written.replace("<|image_pad|>" * 4, "<|image_pad|>") == expected


def test_padding_is_on_the_right_and_masked(batch) -> None:
    tensors, _ = batch
    lengths = tensors["attention_mask"].sum(1)
    assert lengths[1] < lengths[0] == tensors["input_ids"].shape[1]
    assert tensors["attention_mask"][1, : lengths[1]].all()
    assert (tensors["labels"][1, lengths[1] :] == IGNORED).all()


def test_every_image_token_has_its_pixels(batch) -> None:
    tensors, processor = batch
    image_tokens = (tensors["input_ids"] == processor.image_token_id).sum()
    assert image_tokens * 4 == tensors["pixel_values"].shape[0] == tensors["image_grid_thw"].prod(1).sum()


def test_an_answer_that_is_too_long_is_cut_before_its_end_of_turn(micro_model: str) -> None:
    processor = load_processor(find_model(micro_model), image_px=56)
    form = AnswerForm.of(processor, PROMPT)
    answer = encode_answer(LONG, form, processor, room=4)
    assert answer.shortened
    assert len(answer.ids) == 4
    assert answer.ids[-1] == form.end_id
    assert not encode_answer(SHORT, form, processor, room=100).shortened


def test_no_room_beside_the_image_is_an_error_rather_than_a_truncated_image(micro_model: str) -> None:
    processor = load_processor(find_model(micro_model), image_px=56)
    with pytest.raises(InputError, match="--max_length"):
        encode_answer(LONG, AnswerForm.of(processor, PROMPT), processor, room=1)
