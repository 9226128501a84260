"""Augmentation keeps tissue tissue."""

import pytest
import torch

from fusion.augment import AugmentParameters, augment, draw_parameters


def unchanged(rows: int) -> AugmentParameters:
    return AugmentParameters(
        quarter_turns=torch.zeros(rows, dtype=torch.long),
        flip=torch.zeros(rows, dtype=torch.bool),
        scale=torch.ones(rows, 3),
        shift=torch.zeros(rows, 3),
    )


def patches(rows: int = 8) -> torch.Tensor:
    return torch.randint(1, 256, (rows, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_neutral_parameters_change_nothing() -> None:
    torch.testing.assert_close(augment(patches(), unchanged(8)), patches().float() / 255, atol=2e-5, rtol=0)


def test_turns_and_flips_give_the_eight_views_of_the_square() -> None:
    one = patches(1).repeat(8, 1, 1, 1)
    settings = unchanged(8)
    settings.quarter_turns.copy_(torch.arange(8) % 4)
    settings.flip.copy_(torch.arange(8) >= 4)
    views = augment(one, settings)
    assert len({tuple(view.flatten().mul(255).round().int().tolist()) for view in views}) == 8
    torch.testing.assert_close(views.flatten(1).sort(dim=1).values[0], views.flatten(1).sort(dim=1).values[5])


def test_stain_jitter_changes_colour_but_leaves_glass_white() -> None:
    tissue = torch.tensor([150, 80, 160], dtype=torch.uint8).view(1, 3, 1, 1).expand(4, 3, 6, 6).clone()
    glass = torch.full((4, 3, 6, 6), 255, dtype=torch.uint8)
    settings = draw_parameters(4, stain_jitter=0.2, generator=torch.Generator().manual_seed(3))
    restained = augment(tissue, settings)
    assert (restained - tissue / 255).abs().amax(dim=(1, 2, 3)).min() > 0.005
    assert (restained - tissue / 255).abs().max() < 0.2
    torch.testing.assert_close(augment(glass, settings), torch.ones(4, 3, 6, 6))


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_the_same_generator_draws_the_same_parameters(jitter: float) -> None:
    first, second = (
        draw_parameters(5, stain_jitter=jitter, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    for name in ("quarter_turns", "flip", "scale", "shift"):
        assert torch.equal(getattr(first, name), getattr(second, name))
