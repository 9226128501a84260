"""Encode rows once with a frozen tower, the work shared by all processes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusion.images import PatchImages
from fusion.model import FusionModel

if TYPE_CHECKING:
    from accelerate import Accelerator

ENCODE_BATCH = 64


def encode_images(model: FusionModel, images: PatchImages, *, accelerator: "Accelerator", progress: bool) -> Tensor:
    """Features (N, Dv) of all `images`, without augmentation, on the accelerator's device and on every process."""
    tower = model.image_tower
    features = torch.zeros(len(images), tower.dim, device=accelerator.device)
    batches = share(np.arange(len(images)), accelerator=accelerator, size=ENCODE_BATCH)
    with torch.no_grad():
        for rows, pixels in zip(
            tqdm(batches, desc="encoding images once", unit="batch", disable=not progress, leave=False),
            images.batches(batches),
            strict=True,
        ):
            features[torch.from_numpy(rows)] = tower(pixels.to(accelerator.device)).float()
    return accelerator.reduce(features, reduction="sum")


def encode_texts(
    model: FusionModel, ids: Sequence[Sequence[int]], *, accelerator: "Accelerator", progress: bool
) -> Tensor:
    """Features (N, Dt) of all token `ids`, equal ones once, on the accelerator's device and on every process."""
    tower = model.text_tower
    distinct = list(dict.fromkeys(tuple(row) for row in ids))
    features = torch.zeros(len(distinct), tower.dim, device=accelerator.device)
    # Texts of like length share a batch, so that little is padding.
    by_length = np.array(sorted(range(len(distinct)), key=lambda row: len(distinct[row])), dtype=np.int64)
    batches = share(by_length, accelerator=accelerator, size=ENCODE_BATCH)
    with torch.no_grad():
        for rows in tqdm(batches, desc="encoding text once", unit="batch", disable=not progress, leave=False):
            tokens = tower.tokenizer.collate([distinct[row] for row in rows])
            tokens = {name: tensor.to(accelerator.device) for name, tensor in tokens.items()}
            features[torch.from_numpy(rows)] = tower(tokens).float()
    place = {row: index for index, row in enumerate(distinct)}
    return accelerator.reduce(features, reduction="sum")[[place[tuple(row)] for row in ids]]


def share(rows: np.ndarray, *, accelerator: "Accelerator", size: int) -> list[np.ndarray]:
    """This process's part of `rows`, in batches of at most `size`."""
    own = rows[accelerator.process_index :: accelerator.num_processes]
    return [own[start : start + size] for start in range(0, len(own), size)]
