"""Every family of vision-language models trains on its answers alone and writes the same alone and in a batch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, SavedFamily, save_family
from family_configs import LONG, SHORT
from PIL import Image
from transformers import Trainer, TrainingArguments

from data.errors import InputError
from vlm_finetune.collate import IGNORED, AnswerForm, Collator, encode_answer, join
from vlm_finetune.continuous_batch import ContinuousBatch
from vlm_finetune.continuous_check import can_run_continuously
from vlm_finetune.decoding import Caption, Decoding, Request
from vlm_finetune.encode import encode_prompts
from vlm_finetune.generate import generate
from vlm_finetune.image_features import encode_images, keeps_images
from vlm_finetune.lora import LoraScope, add_lora
from vlm_finetune.model import (
    LoadedModel,
    find_adapter,
    find_checkpoint,
    folder_key,
    load,
    load_base,
    load_processor,
    save_base,
)
from vlm_finetune.pairs import Pair, PairDataset
from vlm_finetune.prompt import PatchPrompt

Noise = Callable[[int], list[np.ndarray]]
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Layers so small cost more to share out between threads than to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", params=list(FAMILIES))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedFamily:
    return save_family(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def processor(saved: SavedFamily) -> Any:
    return load_processor(saved.folder, image_px=saved.family.image_px)


@pytest.fixture
def base(saved: SavedFamily) -> Any:
    return load_base(saved.folder, dtype=torch.float32)


def asked(saved: SavedFamily) -> PatchPrompt:
    return PatchPrompt(
        system="You are a pathologist.", question="Describe what is seen.", image_px=saved.family.image_px
    )


def examples(saved: SavedFamily, processor: Any, images: list[np.ndarray], *, room: int = 100) -> list[Any]:
    """One example for each image, their answers long and short by turns."""
    prompt = asked(saved)
    form = AnswerForm.of(processor, prompt)
    return [
        join(encode_prompts([image], prompt, processor), encode_answer(text, form, processor, room=room))
        for image, text in zip(images, (LONG, SHORT) * len(images), strict=False)
    ]


def collator(processor: Any) -> Collator:
    return Collator(pad_id=processor.tokenizer.pad_token_id)


def with_lora(model: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return add_lora(model, LoraScope(rank=4, alpha=8, dropout=0.0, modules=MODULES, **settings))


@pytest.fixture
def adapter(saved: SavedFamily, base: Any, tmp_path: Path) -> tuple[Path, Any]:
    """An adapter that changes what the family's model says, saved as `finetune` does, and the model that carries it."""
    model = with_lora(base)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "run" / "adapter")
    save_base(tmp_path / "run" / "adapter", name=saved.name, model_key=folder_key(saved.folder))
    asked(saved).save(tmp_path / "run")
    return tmp_path / "run", model


def load_with(saved: SavedFamily, adapter: Path | None) -> LoadedModel:
    prompt = asked(saved)
    checkpoint = find_checkpoint(str(saved.folder), prompt=prompt, default_prompt=prompt, adapter=adapter)
    return load(checkpoint, device="cpu", dtype="float32")


def test_the_decoded_labels_are_the_description_and_the_end_of_turn(
    saved: SavedFamily, processor: Any, noise: Noise
) -> None:
    batch = collator(processor)(examples(saved, processor, noise(2)))
    per_token = [key for key in batch if "input_ids" in key or "token_type" in key]
    assert {batch[key].shape for key in per_token} == {batch["labels"].shape}
    decoded = [processor.tokenizer.decode(row[row != IGNORED]).lstrip() for row in batch["labels"]]
    assert decoded == [LONG + saved.family.end, SHORT + saved.family.end]


def test_prompt_and_labels_together_are_what_the_chat_template_writes(
    saved: SavedFamily, processor: Any, noise: Noise
) -> None:
    (example,) = examples(saved, processor, noise(1))
    token = saved.family.image_token
    written = processor.tokenizer.decode(example["input_ids"])
    conversation = asked(saved).messages(LONG)
    conversation[1]["content"][0] = {"type": "image", "image": asked(saved).resize(noise(1)[0])}
    whole = processor.apply_chat_template([conversation], tokenize=True, return_dict=True, return_tensors="pt")
    assert written.count(token) == saved.family.image_tokens
    # A finished turn may end in a line break, and LLaVA-OneVision opens one with a blank that its prompt lacks.
    expected = processor.tokenizer.decode(whole["input_ids"][0]).rstrip("\n").replace("assistant \n", "assistant\n")
    assert written == expected


def test_a_patch_is_seen_whole_at_its_size(saved: SavedFamily, processor: Any, noise: Noise) -> None:
    encoded = encode_prompts(noise(3), asked(saved), processor)
    image_id = processor.tokenizer.convert_tokens_to_ids(saved.family.image_token)
    assert (encoded["input_ids"] == image_id).sum(1).tolist() == [saved.family.image_tokens] * 3
    # All prompts are equally long, so that nothing is padded and the side of padding cannot matter.
    assert encoded["attention_mask"].all()
    first, *rest = saved.family.tower_shape
    assert tuple(encoded["pixel_values"].shape) == (3 * first, *rest)


def test_a_processor_set_up_for_patches_is_saved_and_loaded_as_any_other(
    saved: SavedFamily, processor: Any, tmp_path: Path, noise: Noise
) -> None:
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((saved.folder / "config.json").read_bytes())
    again = load_processor(tmp_path, image_px=saved.family.image_px)
    before, after = (encode_prompts(noise(1), asked(saved), either) for either in (processor, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_too_long_answer_is_shortened_and_the_image_is_not(saved: SavedFamily, processor: Any, noise: Noise) -> None:
    (example,) = examples(saved, processor, noise(1), room=4)
    image_id = processor.tokenizer.convert_tokens_to_ids(saved.family.image_token)
    assert (example["input_ids"] == image_id).sum() == saved.family.image_tokens
    assert (example["labels"] != IGNORED).sum() == 4
    assert processor.tokenizer.decode(example["labels"][-1:]) == saved.family.end


def test_a_patch_larger_than_the_tower_sees_is_refused(saved: SavedFamily, noise: Noise) -> None:
    large = PatchPrompt(system="", question="What is seen?", image_px=448)
    processor = load_processor(saved.folder, image_px=448)
    if hasattr(processor.image_processor, "merge_size"):
        assert encode_prompts(noise(1), large, processor)["image_grid_thw"].prod() > 64
    else:
        with pytest.raises(InputError, match="--image_px 56 or less"):
            encode_prompts(noise(1), large, processor)


@torch.inference_mode()
def test_padding_on_the_right_changes_nothing_a_row_says(
    saved: SavedFamily, processor: Any, base: Any, noise: Noise
) -> None:
    pair = examples(saved, processor, noise(2))
    together = base(**collator(processor)(pair)).logits
    for row, example in enumerate(pair):
        alone = base(**collator(processor)([example])).logits[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-4)


@torch.no_grad()
def test_image_tokens_kept_from_the_frozen_tower_stand_for_the_pixels(
    saved: SavedFamily, processor: Any, base: Any, tmp_path: Path, noise: Noise
) -> None:
    pairs = []
    for index, image in enumerate(noise(3)):
        path = tmp_path / f"{index}.png"
        Image.fromarray(image).save(path)
        pairs.append(Pair(str(index), path, None, (LONG, SHORT)[index % 2], {}))
    dataset = PairDataset(pairs, prompt=asked(saved), processor=processor, max_length=1000, cache=True)
    model = with_lora(base)
    seen = collator(processor)([dataset[2], dataset[0]])
    assert keeps_images(model)
    images = encode_images(model, dataset, workers=0, shown=False)
    blind = collator(processor)([dataset[2], dataset[0]])
    assert "pixel_values" in seen
    assert not any(key.startswith("pixel") for key in blind)
    expected = model(**seen).logits
    kept = images.batch([2, 0], torch.device("cpu"))
    assert torch.allclose(model(**blind, mm_encoder_outputs=kept).logits, expected, atol=1e-4)
    # The test would pass without any image if the model did not look at it.
    other = images.batch([0, 2], torch.device("cpu"))
    assert not torch.allclose(model(**blind, mm_encoder_outputs=other).logits, expected, atol=1e-3)


def test_a_tower_that_is_trained_sees_its_images_at_every_step(saved: SavedFamily, base: Any) -> None:
    assert not keeps_images(with_lora(base, vision=True))


def test_training_lowers_the_loss(saved: SavedFamily, processor: Any, base: Any, noise: Noise, tmp_path: Path) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        per_device_train_batch_size=2,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
    )
    trainer = Trainer(
        model=with_lora(base, vision=True),
        args=arguments,
        train_dataset=examples(saved, processor, noise(2)),  # type: ignore[arg-type]
        data_collator=collator(processor),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


@torch.inference_mode()
def test_a_loaded_adapter_gives_the_logits_it_was_saved_with_and_not_those_of_the_base(
    saved: SavedFamily, adapter: tuple[Path, Any], processor: Any, noise: Noise
) -> None:
    folder, trained = adapter
    batch = collator(processor)(examples(saved, processor, noise(2)))
    loaded = load_with(saved, folder).model
    assert torch.equal(loaded(**batch).logits, trained.eval()(**batch).logits)
    assert not torch.allclose(loaded(**batch).logits, load_with(saved, None).model(**batch).logits, atol=1e-2)


def test_an_adapter_that_lacks_a_tensor_is_refused(saved: SavedFamily, adapter: tuple[Path, Any]) -> None:
    from safetensors.torch import load_file, save_file

    path = find_adapter(adapter[0]) / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, path)
    with pytest.raises(InputError, match="1 tensors do not match"):
        load_with(saved, adapter[0])


def test_a_patch_is_described_the_same_alone_and_in_a_batch(
    saved: SavedFamily, processor: Any, base: Any, noise: Noise
) -> None:
    def describe(images: list[np.ndarray]) -> list[Caption]:
        return generate(base, processor, asked(saved), images, Decoding(max_new_tokens=10))

    together = describe(noise(4))
    alone = [describe([image])[0] for image in noise(4)]
    assert [caption.text for caption in together] == [caption.text for caption in alone]
    assert np.allclose([c.mean_logprob for c in together], [c.mean_logprob for c in alone], atol=1e-3)
    assert len({caption.mean_logprob for caption in together}) == 4


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_rows_that_come_and_go_are_written_as_in_one_batch(
    saved: SavedFamily, processor: Any, base: Any, noise: Noise, temperature: float
) -> None:
    loaded = load_with(saved, None)
    if saved.name == "Gemma3":
        assert not can_run_continuously(loaded), (
            "the image of Gemma 3 is read both ways, and its attention has a window"
        )
        return
    assert can_run_continuously(loaded)
    decoding = Decoding(max_new_tokens=20, temperature=temperature, top_k=10, repetition_penalty=1.2, max_repeats=0)
    # Tokens that come up at some place in some text, so that the texts end at different places.
    ends = [token for token in range(3, 300) if token not in processor.image_token_ids][::3]
    base.generation_config.eos_token_id = ends
    images = noise(9)
    expected = generate(base, processor, asked(saved), images, decoding)
    assert len({caption.tokens for caption in expected}) > 2
    for size in (1, 3, 16):
        rows: ContinuousBatch[int] = ContinuousBatch(base, processor, asked(saved), max_new_tokens=20, size=size)
        found = {
            request.item: caption for request, caption in rows.run(Request(*one, decoding) for one in enumerate(images))
        }
        written = [found[index] for index in range(len(images))]
        assert [(one.text, one.tokens, one.flags) for one in written] == [
            (one.text, one.tokens, one.flags) for one in expected
        ]
        assert np.allclose([one.mean_logprob for one in written], [one.mean_logprob for one in expected], atol=1e-4)


def test_a_trained_model_writes_its_description_and_ends_its_turn(
    saved: SavedFamily, processor: Any, base: Any, noise: Noise
) -> None:
    batch = collator(processor)(examples(saved, processor, noise(2)))
    base.train()
    optimizer = torch.optim.Adam(base.parameters(), lr=1e-2)
    for _ in range(60):
        loss = base(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    captions = generate(base.eval(), processor, asked(saved), noise(2), Decoding(max_new_tokens=60))
    assert [caption.text for caption in captions] == [LONG, SHORT]
    lengths = (batch["labels"] != IGNORED).sum(1).tolist()
    assert [caption.tokens for caption in captions] == lengths
