"""Look at the validation rows: logits of every arm, and how good they are."""

import numpy as np
import torch
from torch import Tensor

from fusion.block import FusionOutput
from fusion.encode import share
from fusion.metrics import balanced_accuracy
from fusion.training import Training


@torch.no_grad()
def validate(run: Training) -> FusionOutput:
    """Logits and gate of the validation rows, in their order, on every process."""
    model, accelerator = run.model, run.accelerator
    rows = run.patches.rows("val")
    place = {row: position for position, row in enumerate(rows)}
    classes = len(run.taxonomy.class_names)
    table = torch.zeros(len(rows), 3 * classes + 1, device=accelerator.device)
    model.eval()
    for batch in run.feed.batches(share(rows, accelerator=accelerator, size=2 * run.config.batch_size)):
        output = model(**batch.inputs)
        parts = [output.fused, output.image, output.text, output.gate.unsqueeze(1)]
        table[[place[row] for row in batch.rows]] = torch.cat([part.float() for part in parts], dim=1)
    table = accelerator.reduce(table, reduction="sum")
    fused, image, text, gate = table.split([classes, classes, classes, 1], dim=1)
    return FusionOutput(fused=fused, image=image, text=text, gate=gate.squeeze(1))


def score(run: Training, output: FusionOutput) -> tuple[dict[str, float | None], float]:
    """Balanced accuracy of each arm (the text's over the rows that have one), and the fused loss."""
    rows = run.patches.rows("val")
    labels = run.patches.labels[rows]
    with_text = run.feed.own_text[rows] != len(run.patches)

    def arm_score(logits: Tensor, counted: np.ndarray) -> float | None:
        if not counted.any():
            return None
        return round(balanced_accuracy(labels[counted], logits.argmax(dim=1).cpu().numpy()[counted]), 6)

    every = np.ones_like(with_text)
    loss = torch.nn.functional.cross_entropy(output.fused.cpu(), torch.from_numpy(labels)).item()
    scores = {
        "fused": arm_score(output.fused, every),
        "image": arm_score(output.image, every),
        "text": arm_score(output.text, with_text),
    }
    return scores, round(loss, 6)
