"""Every block has the same interface, and does without text what it says."""

from typing import get_args

import pytest
import torch

from fusion.baselines import Baseline
from fusion.blocks import BLOCKS, build_block
from fusion.config import BlockName

BASELINES = [name for name, kind in BLOCKS.items() if issubclass(kind, Baseline)]


def given(rows: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randn(rows, 12), "text": torch.randn(rows, 8), "has_text": torch.arange(rows) % 2 == 0}


def test_the_command_line_knows_every_block() -> None:
    assert set(get_args(BlockName)) == set(BLOCKS)


@pytest.mark.parametrize("name", BLOCKS)
def test_shapes_and_range_of_the_gate(name: str) -> None:
    output = build_block(name, image_dim=12, text_dim=8, classes=3)(**given())
    assert output.fused.shape == output.image.shape == output.text.shape == (6, 3)
    assert output.gate.shape == (6,)
    assert ((output.gate >= 0) & (output.gate <= 1)).all()


@pytest.mark.parametrize("name", BASELINES)
def test_without_text_a_baseline_answers_as_its_image_head(name: str) -> None:
    torch.manual_seed(0)
    block = build_block(name, image_dim=12, text_dim=8, classes=3).eval()
    inputs = given()
    output = block(**inputs)
    missing = ~inputs["has_text"]
    assert torch.equal(output.fused[missing], output.image[missing])
    assert (output.gate[missing] == 0).all()
    assert (output.text[missing] == 0).all()
    inputs["text"][missing] = 100.0
    assert torch.equal(block(**inputs).fused, output.fused)


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in ("image-only", "text-only")])
def test_a_fusion_looks_at_both(name: str) -> None:
    torch.manual_seed(0)
    block = build_block(name, image_dim=12, text_dim=8, classes=3).eval()
    inputs = given()
    before = block(**inputs).fused
    read = inputs["has_text"]
    for modality in ("image", "text"):
        changed = inputs | {modality: inputs[modality] + 1.0 * torch.randn_like(inputs[modality])}
        assert not torch.allclose(block(**changed).fused[read], before[read])


def test_the_ends_of_the_scale_are_the_modalities_themselves() -> None:
    inputs = given()
    read = inputs["has_text"]
    image = build_block("image-only", image_dim=12, text_dim=8, classes=3).eval()(**inputs)
    text = build_block("text-only", image_dim=12, text_dim=8, classes=3).eval()(**inputs)
    late = build_block("late-average", image_dim=12, text_dim=8, classes=3).eval()(**inputs)
    assert torch.equal(image.fused, image.image)
    assert torch.equal(text.fused[read], text.text[read])
    assert torch.allclose(late.fused[read], (late.image[read] + late.text[read]) / 2)
