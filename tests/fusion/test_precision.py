"""Towers multiply in bfloat16 where that is faster, and say nearly the same."""

import pytest
import torch

from fusion.blocks import build_block
from fusion.model import FusionModel
from fusion.precision import set_precision
from fusion.tower import ImageTower, TextTower
from fusion.towers import find_tower, load_image_tower, load_text_tower

CPU = torch.device("cpu")


def image_tower(name: str) -> ImageTower:
    return load_image_tower(find_tower(name, modality="image"), pretrained=False).eval()


def text_tower(name: str) -> TextTower:
    return load_text_tower(find_tower(name, modality="text"), texts=["small round cells"] * 2, pretrained=False).eval()


@pytest.mark.parametrize("native", [True, False])
def test_large_towers_alone_use_bfloat16_and_only_on_a_cpu_that_multiplies_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    chosen = {}
    for tower in (image_tower("vgg16"), image_tower("tiny-image"), text_tower("tiny-text")):
        set_precision(tower, "auto", device=CPU)
        chosen[tower.record.name] = tower.bf16
    assert chosen == {"vgg16": native, "tiny-image": False, "tiny-text": False}


def test_a_precision_that_is_asked_for_is_used() -> None:
    tower = image_tower("tiny-image")
    for name, expected in (("bf16", True), ("fp32", False)):
        set_precision(tower, name, device=CPU)  # type: ignore[arg-type]
        assert tower.bf16 is expected


@pytest.mark.parametrize("name", ["vgg16", "tiny-image"])
def test_image_features_in_bfloat16_are_those_of_float32_within_two_in_a_hundred(name: str) -> None:
    torch.manual_seed(0)
    tower = image_tower(name)
    pixels = torch.randint(0, 256, (2, 3, tower.image_size, tower.image_size), dtype=torch.uint8)
    with torch.no_grad():
        exact = tower(pixels)
        set_precision(tower, "bf16", device=CPU)
        near = tower(pixels)
    assert near.dtype == torch.float32 and not near.equal(exact)
    assert (near - exact).norm() < 0.02 * exact.norm()


def test_text_features_in_bfloat16_are_those_of_float32_within_two_in_a_hundred() -> None:
    torch.manual_seed(0)
    tower = text_tower("tiny-text")
    tokens = tower.tokenizer.collate(tower.tokenizer.encode(["small round cells", "cells"]))
    with torch.no_grad():
        exact = tower(tokens)
        set_precision(tower, "bf16", device=CPU)
        near = tower(tokens)
    assert near.dtype == torch.float32 and not near.equal(exact)
    assert (near - exact).norm() < 0.02 * exact.norm()


def test_the_block_computes_in_float32_whatever_the_towers_do() -> None:
    image, text = image_tower("tiny-image"), text_tower("tiny-text")
    for tower in (image, text):
        set_precision(tower, "bf16", device=CPU)
    block = build_block("prmf", image_dim=image.dim, text_dim=text.dim, classes=3)
    model = FusionModel(image_tower=image, text_tower=text, block=block).eval()
    tokens = text.tokenizer.collate(text.tokenizer.encode(["cells"]))
    size = image.image_size
    output = model(
        pixels=torch.zeros(1, 3, size, size, dtype=torch.uint8), tokens=tokens, has_text=torch.tensor([True])
    )
    assert output.fused.dtype == output.image.dtype == output.text.dtype == output.gate.dtype == torch.float32
