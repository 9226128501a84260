"""Look at the validation rows: logits of every arm, and how good they are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.block import FusionOutput
from fusion.curriculum import Stage
from fusion.encode import share
from fusion.metrics import balanced_accuracy
from fusion.training import Training

GATE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Scores:
    """How good a model is on the validation rows."""

    balanced_accuracy: dict[str, float | None]
    """Of each arm (fused, image, text); None for the text where no row has any."""
    loss: float
    """Cross-entropy of the fused logits, every row weighing the same."""
    stage_loss: float
    """alpha CE(fused) + (1 - alpha) CE(image) at the stage's closing alpha."""
    gate: dict[str, float | None]
    """`val_gate_q05` and so on: the GATE_QUANTILES of the gate over the rows that have a text; None where none has."""


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


def score(run: Training, output: FusionOutput, *, stage: Stage) -> Scores:
    """Scores of the validation `output` in `stage`, the same on every process; the text's over rows that have one."""
    from accelerate.utils import broadcast_object_list

    rows = run.patches.rows("val")
    labels = run.patches.labels[rows]
    with_text = run.feed.own_text[rows] != len(run.patches)

    def arm_score(logits: Tensor, counted: np.ndarray) -> float | None:
        if not counted.any():
            return None
        return round(balanced_accuracy(labels[counted], logits.argmax(dim=1).cpu().numpy()[counted]), 6)

    every = np.ones_like(with_text)
    truth, alpha = torch.from_numpy(labels), stage.closing_alpha
    fused, image = (cross_entropy(logits.cpu(), truth).item() for logits in (output.fused, output.image))
    stage_loss = alpha * fused + run.model.block.image_loss_weight(alpha) * image
    scores = {
        "fused": arm_score(output.fused, every),
        "image": arm_score(output.image, every),
        "text": arm_score(output.text, with_text),
    }
    gate = gate_quantiles(output.gate.cpu().numpy()[with_text])
    found = Scores(scores, loss=round(fused, 6), stage_loss=round(stage_loss, 6), gate=gate)
    # What is decided by the scores must be decided alike: one process's last digit holds for all.
    return broadcast_object_list([found])[0]


def gate_quantiles(gate: np.ndarray) -> dict[str, float | None]:
    """Where the gate (N,) of the rows with a text lies, by the column of history.csv; N may be 0."""
    values = np.quantile(gate.astype(np.float64), GATE_QUANTILES) if len(gate) else [None] * len(GATE_QUANTILES)
    return {
        f"val_gate_q{100 * share:02.0f}": None if value is None else round(float(value), 6)
        for share, value in zip(GATE_QUANTILES, values, strict=True)
    }
