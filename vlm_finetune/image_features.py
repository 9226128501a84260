"""What a frozen vision tower makes of the training images, computed once instead of at every step."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data.out_of_memory import run_in_batches
from vlm_finetune.pairs import PairDataset
from vlm_finetune.parts import ModelParts, base_of

_BATCH = 16
# What a model reads from features that it is handed instead of pixels (transformers' `mm_encoder_outputs`).
_DEEPSTACK = "deepstack_features"


@dataclass(frozen=True)
class ImageFeatures:
    """Image tokens of every row of a dataset, on the CPU."""

    pooled: Sequence[torch.Tensor]
    """Of each row: (tokens, width), as the language model takes them in."""
    deepstack: Sequence[Sequence[torch.Tensor]]
    """Of each row, one tensor per layer that image tokens are added to again; empty for most models."""
    kind: type
    """Class of the tower's output."""
    stacked: bool
    """Whether the model wants one tensor for the batch, not one per image."""

    def batch(self, rows: Sequence[int], device: torch.device) -> dict[str, Any]:
        """The argument `mm_encoder_outputs` for a batch of these rows."""
        pooled: Any = [self.pooled[row].to(device, non_blocking=True) for row in rows]
        fields = {"pooler_output": torch.stack(pooled) if self.stacked else pooled}
        if self.deepstack[rows[0]]:
            layers = zip(*(self.deepstack[row] for row in rows), strict=True)
            fields[_DEEPSTACK] = [[one.to(device, non_blocking=True) for one in layer] for layer in layers]
        return {"image": self.kind(**fields)}


def keeps_images(model: Any) -> bool:
    """Whether the image tokens of `model` stay the same while it is trained, and it takes them as an argument."""
    base = base_of(model)
    if "mm_encoder_outputs" not in inspect.signature(base.forward).parameters:
        return False
    parts = ModelParts.of(base)
    trained = [name for name, weight in base.named_parameters() if weight.requires_grad]
    return not any(parts.part_of(name) in ("vision", "projector") for name in trained)


@torch.no_grad()
def encode_images(model: Any, dataset: PairDataset, *, workers: int, shown: bool) -> ImageFeatures:
    """Image tokens of all rows, always in the same batches, so that a resumed training sees the same numbers.

    The rows of `dataset` then come without their pixels.

    Args:
        workers: processes that read and preprocess images meanwhile.
        shown: whether a progress bar is.
    """
    base = base_of(model)
    training = base.training
    base.eval()
    wanted = set(inspect.signature(base.base_model.get_image_features).parameters)
    found: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
    kind: type = dict
    stacked = False

    def encode(examples: Sequence[dict[str, torch.Tensor]]) -> Any:
        inputs = {key: torch.cat([one[key] for one in examples]) for key in examples[0] if key in wanted}
        inputs = {key: value.to(base.device) for key, value in inputs.items()}
        inputs = {key: value.to(base.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        return base.base_model.get_image_features(**inputs, return_dict=True)

    loader = DataLoader(_Prompts(dataset), batch_size=_BATCH, num_workers=workers, collate_fn=list)
    for examples in tqdm(loader, desc="images", unit="batch", disable=not shown):
        outputs, _ = run_in_batches(encode, examples, size=_BATCH, name="encoding images")
        for output in outputs:
            kind, stacked = type(output), isinstance(output.pooler_output, torch.Tensor)
            layers = list(output.get(_DEEPSTACK) or [])
            for row, pooled in enumerate(output.pooler_output):
                dataset.forget_pixels(len(found), examples[len(found) % _BATCH])
                # A row of a larger tensor would keep the whole of it in memory.
                found.append((pooled.cpu().clone(), [layer[row].cpu().clone() for layer in layers]))
    base.train(training)
    return ImageFeatures([pooled for pooled, _ in found], [layers for _, layers in found], kind, stacked)


class _Prompts(Dataset[dict[str, torch.Tensor]]):
    """The encoded prompts of a dataset, with their pixels."""

    def __init__(self, dataset: PairDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.dataset.encoded(row)
