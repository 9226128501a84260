"""The adapter reaches what it is told to reach."""

import pytest

from data.errors import InputError
from vlm_finetune.lora import LoraScope, adapted_parts, add_lora
from vlm_finetune.model import find_model, load_base

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
