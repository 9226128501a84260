"""The fusion blocks: numbers of the published one, and what the robust one does without text."""

import numpy as np
import pytest
import torch

from data.errors import InputError
from fusion.blocks import build_block
from fusion.prmf import PaperPrmf, Prmf


def features(rows: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, 512), torch.randn(rows, 768), torch.ones(rows, dtype=torch.bool)


def test_the_paper_block_computes_the_published_formula() -> None:
    image, text, has_text = features()
    block = build_block("prmf-paper", image_dim=512, text_dim=768, classes=3).eval()
    weights = {name: tensor.numpy().astype(float) for name, tensor in block.state_dict().items()}
    v, t = image.numpy().astype(float), text.numpy().astype(float)

    joined = np.concatenate([t, v], axis=1)
    assert joined.shape == (5, 1280) and weights["gate.0.weight"].shape == (256, 1280)
    hidden = np.maximum(joined @ weights["gate.0.weight"].T + weights["gate.0.bias"], 0)
    w = 1 / (1 + np.exp(-(hidden @ weights["gate.2.weight"].T + weights["gate.2.bias"])))
    f = w * t + (1 - w) * (v @ weights["project.weight"].T + weights["project.bias"])
    logits = np.maximum(f, 0) @ weights["classify.2.weight"].T + weights["classify.2.bias"]

    output = block(image=image, text=text, has_text=has_text)
    np.testing.assert_allclose(output.fused.detach().numpy(), logits, atol=1e-5)
    np.testing.assert_allclose(output.gate.detach().numpy(), w[:, 0], atol=1e-6)
    expected_image = v @ weights["image_head.weight"].T + weights["image_head.bias"]
    np.testing.assert_allclose(output.image.detach().numpy(), expected_image, atol=1e-5)


def test_the_paper_block_drops_three_tenths_before_its_classifier() -> None:
    block = PaperPrmf(image_dim=512, text_dim=768, classes=3)
    assert [type(layer).__name__ for layer in block.classify] == ["ReLU", "Dropout", "Linear"]
    assert block.classify[1].p == 0.3


def test_the_text_probe_of_the_paper_block_sends_no_gradient_into_the_text() -> None:
    image, text, has_text = features()
    text.requires_grad_()
    PaperPrmf(image_dim=512, text_dim=768, classes=3)(image=image, text=text, has_text=has_text).text.sum().backward()
    assert text.grad is None


def test_the_text_head_of_the_robust_block_trains_the_text() -> None:
    image, text, has_text = features()
    text.requires_grad_()
    Prmf(image_dim=512, text_dim=768, classes=3)(image=image, text=text, has_text=has_text).text.sum().backward()
    assert text.grad is not None and text.grad.abs().sum() > 0


def test_without_text_the_robust_block_answers_from_the_image_alone() -> None:
    image, text, has_text = features()
    has_text[2:] = False
    block = Prmf(image_dim=512, text_dim=768, classes=3).eval()
    first = block(image=image, text=text, has_text=has_text)
    other = block(image=image, text=torch.randn_like(text) * 9, has_text=has_text)
    assert torch.equal(first.gate[2:], torch.zeros(3)) and (first.gate[:2] > 0).all()
    assert torch.equal(first.fused[2:], other.fused[2:]) and not torch.allclose(first.fused[:2], other.fused[:2])
    assert torch.equal(first.fused[2:], first.image[2:])
    assert torch.equal(first.text[2:], torch.zeros(3, 3))


def test_an_unknown_block_is_named() -> None:
    with pytest.raises(InputError, match=r"block prism is unknown; use prmf, prmf-paper, image-only"):
        build_block("prism", image_dim=4, text_dim=4, classes=2)
