"""The adapter reaches what it is told to reach, in every family of models."""

from collections import Counter
from typing import Any

import pytest
from families import FAMILIES, random_model

from data.errors import InputError
from vlm_finetune.lora import LoraScope, adapted_parts, add_lora
from vlm_finetune.model import find_model, load_base
from vlm_finetune.parts import ModelParts, linear_names

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def adapted(micro_model: str, **flags: bool) -> dict[str, int]:
    import torch

    base = load_base(find_model(micro_model), dtype=torch.float32)
    return adapted_parts(add_lora(base, LoraScope(rank=2, alpha=2, dropout=0.0, modules=MODULES, **flags)))


def test_by_default_only_the_language_model_is_adapted(micro_model: str) -> None:
    # Two layers of seven; the vision tower has MLPs of the same names.
    assert adapted(micro_model) == {"language": 14}


def test_the_vision_tower_is_adapted_when_asked(micro_model: str) -> None:
    assert adapted(micro_model, vision=True) == {"language": 14, "vision": 10}


def test_the_projector_is_adapted_when_asked(micro_model: str) -> None:
    assert adapted(micro_model, projector=True) == {"language": 14, "projector": 2}


def test_a_layer_name_that_the_model_lacks_is_refused(micro_model: str) -> None:
    import torch

    base = load_base(find_model(micro_model), dtype=torch.float32)
    with pytest.raises(InputError, match=r"query.*q_proj"):
        add_lora(base, LoraScope(rank=2, alpha=2, dropout=0.0, modules=("query",)))


def family_scope(family: str, **flags: bool) -> dict[str, int]:
    model = random_model(FAMILIES[family].build()[0])
    return adapted_parts(add_lora(model, LoraScope(rank=2, alpha=2, dropout=0.0, modules=MODULES, **flags)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_is_counted_to_its_part(family: str) -> None:
    model = random_model(FAMILIES[family].build()[0])
    parts = ModelParts.of(model)
    assert Counter(parts.part_of(name) for name in linear_names(model)) == FAMILIES[family].linear_layers


@pytest.mark.parametrize("family", FAMILIES)
def test_by_default_no_family_has_its_vision_adapted(family: str) -> None:
    assert family_scope(family) == {"language": 14}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["vision", "projector"])
def test_each_part_of_each_family_is_adapted_by_its_own_flag(family: str, part: str) -> None:
    count = FAMILIES[family].linear_layers.get(part)
    if count is None:
        with pytest.raises(InputError, match=f"Gemma3.*projector.*leave --lora_{part} off"):
            family_scope(family, **{part: True})
    else:
        assert family_scope(family, **{part: True}) == {"language": 14, part: count}


def test_a_model_without_a_vision_tower_is_refused_by_name() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 8}
    text_only = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=1, num_key_value_heads=1))
    with pytest.raises(InputError, match="Qwen2ForCausalLM: has no language model and vision tower"):
        add_lora(text_only, LoraScope(rank=2, alpha=2, dropout=0.0, modules=MODULES))
