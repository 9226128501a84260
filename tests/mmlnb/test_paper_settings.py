"""The presets named paper hold the numbers of arXiv 2503.12927, point by point (docs/paper.md)."""

from pathlib import Path
from typing import Any

import pytest

from data.command import make_config
from data.config import PrepareConfig
from data.taxonomy import load_taxonomy
from fusion.blocks import build_block
from fusion.config import TrainConfig
from fusion.curriculum import PAPER_STAGES
from fusion.record import IMAGENET_MEAN, IMAGENET_STD
from fusion.towers import find_tower
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.prompt import PatchPrompt

FINETUNE = {
    "model": "Qwen/Qwen2.5-VL-7B-Instruct",
    "dtype": "bfloat16",
    "tune": "lora",
    "quantise": "none",
    "lora_variant": "lora",
    "lora_rank": 64,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "lora_vision": False,
    "lora_projector": False,
    "epochs": 5,
    "learning_rate": 1e-4,
    "schedule": "linear",
    "warmup_share": 0,
    "weight_decay": 0,
    "batch_size": 4,
    "accumulation": 4,
    "gradient_checkpointing": True,
    "max_length": 8192,
    "image_px": 256,
    "early_stopping": "none",
    "seed": 2024,
}
CAPTION = {
    "model": "Qwen/Qwen2.5-VL-7B-Instruct",
    "dtype": "bfloat16",
    "image_px": 256,
    "max_new_tokens": 256,
    "temperature": 0.3,
    "top_p": 0.9,
    "top_k": 50,
    "repetition_penalty": 1.2,
    "max_repeats": 0,
    "splits": ("train", "val", "test"),
    "seed": 2024,
}
TRAIN = {
    "image_tower": "vgg16",
    "text_tower": "bert-base-uncased",
    "pretrained": True,
    "image_lora_rank": 0,
    "text_lora_rank": 0,
    "text_source": "captions",
    "block": "prmf-paper",
    "hidden": 256,
    "dropout": 0.3,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "weight_decay": 0,
    "augment": (),
    "balance": "none",
    "text_dropout": 0,
    "text_swap_within": 0,
    "text_swap_across": 0,
    "text_cut": 0,
    "gate_loss": 0,
    "stages": PAPER_STAGES,
    "seed": 2024,
}
PREPARE = {"val_fraction": 0.1, "test_fraction": 0.2, "no_patients": False, "descriptions": "optional", "seed": 2024}
COMMANDS = {
    "prepare": (PrepareConfig, {"source": Path("data")}, PREPARE),
    "finetune": (FinetuneConfig, {"manifest": Path("m")}, FINETUNE),
    "caption": (CaptionConfig, {"manifest": Path("m")}, CAPTION),
    "train": (TrainConfig, {"manifest": Path("m")}, TRAIN),
}


def preset(command: str) -> Any:
    config_class, given, _ = COMMANDS[command]
    return make_config(config_class, name=command, config="paper", out=Path("o"), **given)


@pytest.mark.parametrize(
    ("command", "setting"), [(command, setting) for command, parts in COMMANDS.items() for setting in parts[2]]
)
def test_a_preset_holds_the_papers_number(command: str, setting: str) -> None:
    assert getattr(preset(command), setting) == COMMANDS[command][2][setting]


def test_one_question_as_a_pathologist_is_asked_in_training_and_in_captioning() -> None:
    asked = []
    for config in (preset("finetune"), preset("caption")):
        prompt = PatchPrompt.fill(
            system=config.system, question=config.question, image_px=config.image_px, taxonomy=load_taxonomy()
        )
        assert not prompt.system
        for word in ("pathologist specialised", "neuroblastoma", "microscopically"):
            assert word in prompt.question
        asked.append(prompt.key)
    assert asked[0] == asked[1]


def test_alpha_and_what_is_frozen_follow_the_paper_through_150_epochs() -> None:
    stages = preset("train").stages
    assert [stage.freeze for stage in stages] == [("text",), (), ("image", "text")]
    epochs = [(stage, epoch) for stage in stages for epoch in range(stage.epochs)]
    rising = [round(0.3 + 0.14 * (epoch // 10), 2) for epoch in range(50)]
    assert [stage.alpha(epoch) for stage, epoch in epochs] == [0.3] * 50 + rising + [1.0] * 50
    parts = ("image", "text", "block")
    assert {stage.rate(part, default=1e-4) for stage, _ in epochs for part in parts} == {1e-4}
    assert {stage.patience for stage in stages} == {None}


def test_the_towers_are_those_of_the_paper() -> None:
    config = preset("train")
    image = find_tower(config.image_tower, modality="image")
    assert (image.source, image.dim, image.pooling) == ("vgg16.tv_in1k", 512, "mean")
    assert (image.image_size, image.resize, image.mean, image.std) == (224, 224, IMAGENET_MEAN, IMAGENET_STD)
    text = find_tower(config.text_tower, modality="text")
    assert text.source == "google-bert/bert-base-uncased"
    assert (text.dim, text.pooling, text.text_length) == (768, "pooler", 128)


def test_the_block_has_the_layers_of_the_paper() -> None:
    config = preset("train")
    block = build_block(
        config.block, image_dim=512, text_dim=768, classes=3, hidden=config.hidden, dropout=config.dropout
    )
    shapes = {name: tuple(parameter.shape) for name, parameter in block.named_parameters() if parameter.ndim == 2}
    heads = {"image_head.weight": (3, 512), "text_head.weight": (3, 768)}
    assert shapes == heads | {
        "gate.0.weight": (256, 1280),
        "gate.2.weight": (1, 256),
        "project.weight": (768, 512),
        "classify.2.weight": (3, 768),
    }
    assert [block.image_loss_weight(alpha) for alpha in (0.3, 1.0)] == pytest.approx([0.7, 0.0])
