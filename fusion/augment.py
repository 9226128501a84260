"""Augmentation that keeps H&E true: the eight symmetries of the square, and stain jitter in optical density."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Optical densities of haematoxylin, eosin and a residual (Ruifrok and Johnston 2001), one stain per row.
STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])


@dataclass(frozen=True)
class AugmentParameters:
    """What is done to each of N patches."""

    quarter_turns: Tensor
    """(N,) 0 to 3."""
    flip: Tensor
    """(N,) bool."""
    scale: Tensor
    """(N, 3) factor on the density of each stain."""
    shift: Tensor
    """(N, 3) optical density added to each stain."""

    def rows(self, index: Tensor) -> "AugmentParameters":
        """The parameters of some rows."""
        return AugmentParameters(self.quarter_turns[index], self.flip[index], self.scale[index], self.shift[index])


def draw_parameters(rows: int, *, stain_jitter: float, generator: torch.Generator) -> AugmentParameters:
    """Draw the parameters of `rows` patches, stain densities within ± `stain_jitter` (relative)."""

    def between(spread: float) -> Tensor:
        return (torch.rand(rows, 3, generator=generator) * 2 - 1) * spread

    return AugmentParameters(
        quarter_turns=torch.randint(0, 4, (rows,), generator=generator),
        flip=torch.rand(rows, generator=generator) < 0.5,
        scale=1 + between(stain_jitter),
        shift=between(stain_jitter / 4),
    )


def augment(pixels: Tensor, parameters: AugmentParameters) -> Tensor:
    """Turn, flip and restain RGB `pixels` (N, 3, S, S), uint8; returns float in [0, 1] of the same shape."""
    turned = pixels.clone()
    for turns in range(4):
        for flip in (False, True):
            chosen = (parameters.quarter_turns == turns) & (parameters.flip == flip)
            if chosen.any():
                some = torch.rot90(pixels[chosen], turns, dims=(2, 3))
                turned[chosen] = some.flip(3) if flip else some
    return _restain(turned.float() / 255, scale=parameters.scale, shift=parameters.shift)


def _restain(pixels: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
    """Change the density of each stain; density mixes linearly, so one matrix per patch does all of it."""
    stains = torch.nn.functional.normalize(STAINS, dim=1).to(pixels.device)
    density = -torch.log(pixels.clamp(min=1 / 255))  # (N, 3, S, S)
    mix = torch.linalg.inv(stains) @ torch.diag_embed(scale) @ stains  # (N, 3, 3)
    # A shift in proportion to the tissue's own density leaves white glass white.
    offset = (shift @ stains)[:, :, None, None] * density.mean(dim=1, keepdim=True).clamp(max=1)
    return torch.exp(-(torch.einsum("nchw,ncd->ndhw", density, mix) + offset)).clamp(0, 1)
