"""Build the embedded model from its seed: `python -m vlm_finetune.tiny.build`, about ten minutes on two cores."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch.nn.utils.rnn import pad_sequence
from transformers import get_cosine_schedule_with_warmup

from data.atomic import write_text
from data.command import run_command
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.collate import IGNORED
from vlm_finetune.decoding import Decoding
from vlm_finetune.encode import encode_prompts
from vlm_finetune.generate import generate
from vlm_finetune.tiny.architecture import Size, build_model, build_processor
from vlm_finetune.tiny.card import write_card
from vlm_finetune.tiny.config import BuildConfig
from vlm_finetune.tiny.tissue import TAXONOMY, TissueSet, draw_tissue
from vlm_finetune.tiny.wording import (
    PlainWords,
    load_plain_words,
    plain_caption,
    prompts,
    read_plain,
    rewriting,
    tokenizer_texts,
)


@dataclass(frozen=True)
class _Builder:
    config: BuildConfig
    taxonomy: Taxonomy
    words: PlainWords
    size: Size
    processor: Any
    model: Any
    rng: np.random.Generator
    say: Callable[[str], None]


def build(config: BuildConfig) -> Path:
    """Draw tissue, train the model on it, and save it in float16 with its card."""
    torch.set_num_threads(config.threads)
    started = time.monotonic()

    def say(message: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {message}", flush=True)

    taxonomy = load_taxonomy(TAXONOMY)
    words = load_plain_words(taxonomy)
    size = Size()
    processor = build_processor(tokenizer_texts(taxonomy, words, seed=config.seed), size)
    model = build_model(processor, size, seed=config.seed)
    _spread(model, seed=config.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"{parameters / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens; drawing {config.patches} patches")
    builder = _Builder(config, taxonomy, words, size, processor, model, np.random.default_rng(config.seed), say)
    train = draw_tissue(config.patches, image_px=size.image_px, seed=config.seed)
    held_out = draw_tissue(config.held_out, image_px=size.image_px, seed=config.seed + 1)
    say("teaching the vision tower")
    _teach_vision(builder, train, held_out)
    say("teaching captions")
    _teach_captions(builder, train)
    model.half().save_pretrained(config.out)
    processor.save_pretrained(config.out)
    scores = _caption_scores(builder, held_out)
    for name, score in scores.items():
        say(f"{name}: {score:.3f}")
    card = write_card(config, taxonomy, words, scores=scores, parameters=parameters, image_px=size.image_px)
    write_text(config.out / "README.md", card)
    # safetensors keeps its files to their owner; these travel in a wheel.
    (config.out / "model.safetensors").chmod(0o644)
    return config.out


def _spread(model: torch.nn.Module, *, seed: int) -> None:
    """Draw weights by the width of their layer: the default spread is made for far wider ones and starts too small."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv3d):
            spread = module.weight[0].numel() ** -0.5
            torch.nn.init.trunc_normal_(module.weight, std=spread, a=-2 * spread, b=2 * spread, generator=generator)


def _teach_vision(builder: _Builder, train: TissueSet, held_out: TissueSet) -> None:
    """One linear head per finding on the mean image token; the heads are thrown away."""
    config, visual = builder.config, builder.model.model.visual
    counts = [len(finding.values) for finding in builder.taxonomy.findings.values()]
    torch.manual_seed(config.seed)
    heads = torch.nn.Linear(builder.size.text_width, sum(counts))
    targets = train.targets(builder.taxonomy)
    weights = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=config.vision_rate, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, config.vision_steps // 10, config.vision_steps)
    order = _batches(len(train.images), builder)
    visual.train()
    for step in range(config.vision_steps):
        rows = next(order)
        images = [_turn(train.images[row], builder.rng) for row in rows]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens = _image_tokens(builder, images)  # (N, tokens, D)
        guesses = heads(tokens.float().mean(1)).split(counts, 1)
        losses = [F.cross_entropy(guess, targets[rows, place]) for place, guess in enumerate(guesses)]
        loss = torch.stack(losses).sum()
        _update(loss, weights, optimizer, schedule)
        if (step + 1) % 100 == 0:
            builder.say(f"vision step {step + 1}: loss {loss.item():.3f}")
    visual.eval()
    with torch.inference_mode():
        tokens = torch.cat([_image_tokens(builder, list(part)) for part in np.array_split(held_out.images, 8)])
        guesses = heads(tokens.mean(1)).split(counts, 1)
    truth = held_out.targets(builder.taxonomy)
    for place, (name, guess) in enumerate(zip(builder.taxonomy.findings, guesses, strict=True)):
        score = f1_score(truth[:, place].numpy(), guess.argmax(1).numpy(), average="macro")
        builder.say(f"vision {name}: macro-F1 {score:.3f} on held-out patients")


def _teach_captions(builder: _Builder, train: TissueSet) -> None:
    """Plain captions of patches, and every third batch the rewriting of such captions as reports."""
    config, model = builder.config, builder.model
    asked = prompts([builder.taxonomy.tissue, load_taxonomy().tissue], image_px=builder.size.image_px)
    # The tower knows its findings by now; only what carries them over to words is trained.
    model.model.visual.requires_grad_(False)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.caption_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, config.caption_steps // 10, config.caption_steps)
    order = _batches(len(train.images), builder)
    model.train()
    for step in range(config.caption_steps):
        if step % 3 == 2:
            batch = _rewriting_batch(builder)
        else:
            rows = next(order)
            images = [_turn(train.images[row], builder.rng) for row in rows]
            answers = [plain_caption(train.findings[row], builder.words) for row in rows]
            # Half of the batches ask the default question; the others keep the base from hanging on its wording.
            prompt = asked[0] if builder.rng.random() < 0.5 else asked[int(builder.rng.integers(len(asked)))]
            batch = _with_answers(encode_prompts(images, prompt, builder.processor), answers, builder)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        _update(loss, weights, optimizer, schedule)
        if (step + 1) % 100 == 0:
            builder.say(f"caption step {step + 1}: loss {loss.item():.3f}")
    model.eval()


def _rewriting_batch(builder: _Builder) -> dict[str, torch.Tensor]:
    pairs = [rewriting(builder.taxonomy, builder.words, builder.rng) for _ in range(builder.config.batch_size)]
    encoded = builder.processor.tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question, _ in pairs],
        chat_template=builder.processor.chat_template,
        add_generation_prompt=True,
        tokenize=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    return _with_answers(dict(encoded), [answer for _, answer in pairs], builder)


def _with_answers(encoded: dict[str, torch.Tensor], answers: list[str], builder: _Builder) -> dict[str, torch.Tensor]:
    """Put the answers behind prompts that are padded on the left; labels cover the answers."""
    tokenizer = builder.processor.tokenizer
    end = tokenizer.eos_token_id
    ids = [torch.tensor([*tokenizer(answer)["input_ids"], end]) for answer in answers]
    written = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad_sequence(ids, batch_first=True, padding_value=IGNORED)
    batch = {key: value for key, value in encoded.items() if key in ("pixel_values", "image_grid_thw")}
    batch["input_ids"] = torch.cat([encoded["input_ids"], written], 1)
    batch["attention_mask"] = torch.cat([encoded["attention_mask"], (labels != IGNORED).long()], 1)
    batch["labels"] = torch.cat([torch.full_like(encoded["input_ids"], IGNORED), labels], 1)
    if "mm_token_type_ids" in encoded:
        batch["mm_token_type_ids"] = torch.cat([encoded["mm_token_type_ids"], torch.zeros_like(written)], 1)
    return batch


def _caption_scores(builder: _Builder, held_out: TissueSet) -> dict[str, float]:
    """Macro-F1 of each finding in the plain captions of patients the model has not seen."""
    prompt = prompts([load_taxonomy().tissue], image_px=builder.size.image_px)[0]
    model = builder.model.float()
    stated = []
    for part in np.array_split(held_out.images, 8):
        captions = generate(model, builder.processor, prompt, list(part), Decoding())
        stated += [read_plain(caption.text, builder.words) for caption in captions]
    return {
        name: float(
            f1_score(
                [row[name] for row in held_out.findings],
                [row.get(name, "") for row in stated],
                labels=list(finding.values),
                average="macro",
                zero_division=0.0,
            )
        )
        for name, finding in builder.taxonomy.findings.items()
    }


def _image_tokens(builder: _Builder, images: list[np.ndarray]) -> torch.Tensor:
    encoded = builder.processor.image_processor(images, return_tensors="pt")
    tokens = builder.model.model.visual(encoded["pixel_values"], grid_thw=encoded["image_grid_thw"]).pooler_output
    return tokens.view(len(images), -1, builder.size.text_width)


def _update(loss: Any, weights: list[Any], optimizer: Any, schedule: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    schedule.step()


def _batches(count: int, builder: _Builder) -> Iterator[list[int]]:
    """Rows of one batch after another, every row once before any comes again."""
    size = builder.config.batch_size
    while True:
        order = builder.rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size].tolist()


def _turn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the eight ways to lay a patch on the table."""
    turned = np.rot90(image, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


if __name__ == "__main__":
    raise SystemExit(run_command(build, BuildConfig, name="tiny-vlm"))
