"""Six families of vision-language models, each tiny and untrained but real in every class, its processor's included."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import family_configs
import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to build one family, and what is true of it."""

    build: Callable[[], tuple[PreTrainedConfig, Any]]
    """Configuration and processor."""
    image_px: int
    image_tokens: int
    """Tokens that the model spends on a patch of `image_px`."""
    image_token: str
    end: str
    """Token that closes the model's turn."""
    linear_layers: dict[str, int]
    """Number of linear layers in each part."""
    tower_shape: tuple[int, ...]
    """Shape of `pixel_values` for one patch of `image_px`."""


@dataclass(frozen=True, kw_only=True)
class SavedFamily:
    """A family with the folder that its model and processor were saved in."""

    name: str
    family: Family
    folder: Path


def random_model(config: PreTrainedConfig) -> Any:
    """Untrained model whose weights are large enough that each patch gets a text of its own."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1 if "embed_tokens" in name else 0.25)
    return model


def save_family(name: str, folder: Path) -> SavedFamily:
    """Build the family `name` and save it."""
    family = FAMILIES[name]
    config, processor = family.build()
    model = random_model(config)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return SavedFamily(name=name, family=family, folder=folder)


# Two layers of seven in each language model, the head beside them.
FAMILIES = {
    "Qwen2.5-VL": Family(
        build=family_configs.qwen2_5_vl,
        image_px=112,
        image_tokens=16,
        image_token="<|image_pad|>",
        end="<|im_end|>",
        linear_layers={"language": 14, "vision": 10, "projector": 2, "head": 1},
        tower_shape=(64, 1176),
    ),
    "Qwen3-VL": Family(
        build=family_configs.qwen3_vl,
        image_px=64,
        image_tokens=4,
        image_token="<|image_pad|>",
        end="<|im_end|>",
        linear_layers={"language": 14, "vision": 8, "projector": 4, "head": 1},
        tower_shape=(16, 1536),
    ),
    "Idefics3": Family(
        build=family_configs.idefics3,
        image_px=56,
        image_tokens=4,
        image_token="<image>",
        end="<end_of_utterance>",
        linear_layers={"language": 14, "vision": 12, "projector": 1, "head": 1},
        tower_shape=(1, 1, 3, 56, 56),
    ),
    "LLaVA-OneVision": Family(
        build=family_configs.llava_onevision,
        image_px=56,
        # The overview, the one tile of the same patch, and the ends of its lines.
        image_tokens=36,
        image_token="<image>",
        end="<|im_end|>",
        linear_layers={"language": 14, "vision": 12, "projector": 2, "head": 1},
        tower_shape=(1, 2, 3, 56, 56),
    ),
    "InternVL": Family(
        build=family_configs.internvl,
        image_px=56,
        image_tokens=4,
        image_token="<IMG_CONTEXT>",
        end="<|im_end|>",
        linear_layers={"language": 14, "vision": 12, "projector": 2, "head": 1},
        tower_shape=(1, 3, 56, 56),
    ),
    "Gemma3": Family(
        build=family_configs.gemma3,
        image_px=56,
        image_tokens=4,
        image_token="<image_soft_token>",
        end="<end_of_turn>",
        # Its projector is a bare matrix.
        linear_layers={"language": 14, "vision": 12, "head": 1},
        tower_shape=(1, 3, 56, 56),
    ),
}
