"""The loss of the curriculum against its formula."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from fusion.block import FusionOutput
from fusion.objective import class_weights, curriculum_loss, log_class_counts
from fusion.prmf import Prmf

LABELS = torch.tensor([0, 1, 2, 1])
TEXT = torch.ones(4, dtype=torch.bool)


def output() -> FusionOutput:
    torch.manual_seed(1)
    logits = [torch.randn(4, 3) for _ in range(3)]
    return FusionOutput(*logits, gate=torch.zeros(4))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_weighs_fused_against_image_by_alpha(alpha: float) -> None:
    out = output()
    losses = curriculum_loss(out, LABELS, alpha=alpha, weights=torch.ones(4), honest_text=torch.zeros(4), has_text=TEXT)
    expected = alpha * cross_entropy(out.fused, LABELS, reduction="sum")
    expected = expected + (1 - alpha) * cross_entropy(out.image, LABELS, reduction="sum")
    torch.testing.assert_close(losses.total, expected)


def test_only_text_that_belongs_to_its_patch_counts_for_the_text_head() -> None:
    out = output()
    honest = torch.tensor([1.0, 0.0, 0.0, 1.0])
    losses = curriculum_loss(out, LABELS, alpha=1.0, weights=torch.ones(4), honest_text=honest, has_text=TEXT)
    kept = cross_entropy(out.text[[0, 3]], LABELS[[0, 3]], reduction="sum")
    torch.testing.assert_close(losses.total - losses.fused, kept)


def test_a_block_that_keeps_its_image_loss_gives_it_the_whole_weight_at_any_alpha() -> None:
    out = output()
    for alpha in (0.3, 1.0):
        losses = curriculum_loss(
            out,
            LABELS,
            alpha=alpha,
            weights=torch.ones(4),
            honest_text=torch.zeros(4),
            has_text=TEXT,
            image_weight=Prmf(image_dim=2, text_dim=2, classes=3).image_loss_weight(alpha),
        )
        image = cross_entropy(out.image, LABELS, reduction="sum")
        torch.testing.assert_close(losses.total, alpha * cross_entropy(out.fused, LABELS, reduction="sum") + image)


def test_class_weights_make_classes_equal_and_keep_the_mean_at_one() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = class_weights(labels, classes=4)
    assert weights[labels].mean().item() == pytest.approx(1)
    assert [weights[labels][labels == one].sum().item() for one in range(3)] == pytest.approx([10 / 3] * 3)
    assert weights[3] == 0


def test_the_gate_is_drawn_to_the_text_where_it_knows_better_and_from_it_where_it_is_wrong() -> None:
    right, wrong = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 9.0, 0.0]])
    gate = torch.full((4,), 0.5, requires_grad=True)
    text, image = torch.cat([right, wrong, right, wrong]), torch.cat([wrong, right, right, right])
    has_text = torch.tensor([True, True, True, False])
    curriculum_loss(
        FusionOutput(fused=image, image=image, text=text, gate=gate),
        torch.zeros(4, dtype=torch.long),
        alpha=1.0,
        weights=torch.ones(4),
        honest_text=torch.zeros(4),
        has_text=has_text,
        gate_loss=1.0,
    ).total.backward()
    assert gate.grad is not None
    assert gate.grad[0] < -1 and gate.grad[1] > 1
    torch.testing.assert_close(gate.grad[2:], torch.zeros(2), atol=1e-3, rtol=0)


def test_balanced_softmax_weighs_every_class_by_its_count_in_all_heads() -> None:
    out, counts = output(), torch.tensor([5.0, 1.0, 30.0])
    alpha, honest = 0.3, torch.tensor([1.0, 0.0, 1.0, 1.0])
    losses = curriculum_loss(
        out,
        LABELS,
        alpha=alpha,
        weights=torch.ones(4),
        honest_text=honest,
        has_text=TEXT,
        log_counts=log_class_counts(torch.repeat_interleave(torch.arange(3), counts.long()), classes=3),
    )

    def plain(logits: torch.Tensor) -> torch.Tensor:
        odds = counts * logits.exp()
        return -(odds[torch.arange(4), LABELS] / odds.sum(dim=1)).log()

    torch.testing.assert_close(losses.fused, plain(out.fused).sum())
    torch.testing.assert_close(losses.image, plain(out.image).sum())
    torch.testing.assert_close(losses.text, (plain(out.text) * honest).sum())
    torch.testing.assert_close(losses.total, alpha * losses.fused + (1 - alpha) * losses.image + losses.text)


def test_a_class_without_rows_is_still_learnt_to_be_unlikely() -> None:
    shift = log_class_counts(torch.tensor([0, 0, 0, 1]), classes=3)
    assert shift.tolist() == pytest.approx([1.0986, 0, 0], abs=1e-4)
