"""The report of a training: its curves, the gate over time, and what the model wrote on the way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from data.image import read_image
from data.taxonomy import Taxonomy
from mmlnb.pages.beside import beside, write_beside
from mmlnb.pages.highlight import highlight
from mmlnb.pages.page import image_uri, write_page
from mmlnb.pages.training_figures import GATE, alpha_figure, captions_figure, curves_figure, gate_figure
from vlm_finetune.written_samples import WrittenSample, read_samples

PATCHES = 6
LOSSES = {"loss": "all", "loss_fused": "fused", "loss_image": "image", "loss_text": "text"}
VALIDATION_LOSSES = {"val_loss": "fused", "val_stage_loss": "the stage's objective"}
ACCURACIES = {
    "val_balanced_accuracy": "image and text",
    "val_image_balanced_accuracy": "image alone",
    "val_text_balanced_accuracy": "text alone",
}
COLUMNS = {
    "stage": "Stage",
    "epoch": "Epoch",
    "alpha": "α",
    "loss": "Loss",
    "val_loss": "Validation loss",
    **{name: f"Balanced accuracy, {shown}" for name, shown in ACCURACIES.items()},
    "val_gate_q05": "Gate, 5%",
    "val_gate_q50": "Gate, median",
    "val_gate_q95": "Gate, 95%",
    "kept": "Kept",
}
CAPTION_COLUMNS = {
    "step": "Step",
    "epoch": "Epoch",
    "loss": "Loss",
    "val_loss": "Validation loss",
    "finding_f1": "Finding macro-F1",
    "learning_rate": "Learning rate",
}


@dataclass(frozen=True)
class SampledPatch:
    """One validation patch with what was written about it in the course of the fine-tuning."""

    patch: str
    picture: str | None
    reference: str
    written: dict[int, str]
    """Optimizer steps to the text after so many."""
    marked: dict[int, Markup]
    """The same with the findings marked."""
    reference_marked: Markup


def write_training_page(run: Path, out: Path, *, taxonomy: Taxonomy) -> Path:
    """Write `out/training.html` on the trainings in `run/train` and `run/finetune`, one of which may be missing.

    JSON and CSV lie beside it. Returns its path.
    """
    page = out / "training.html"
    fusion, captions = (_history(run / stage / "history.csv") for stage in ("train", "finetune"))
    patches = _sampled(run / "finetune", taxonomy)
    epochs = {} if captions is None else _epoch_of_step(captions)
    tables = {name: table for name, table in (("fusion", fusion), ("captions", captions)) if table is not None}
    if patches:
        tables["samples"] = pd.DataFrame(
            [
                (one.patch, step, epochs.get(step), one.reference, text)
                for one in patches
                for step, text in one.written.items()
            ],
            columns=["patch", "step", "epoch", "reference", "written"],
        )
    write_page(
        "training.html.j2",
        page,
        taxonomy=taxonomy,
        fusion=None if fusion is None else _rows(fusion, COLUMNS),
        fusion_columns={} if fusion is None else _known(fusion, COLUMNS),
        fusion_figures=[] if fusion is None else _fusion_figures(fusion),
        captions=None if captions is None else _rows(captions, CAPTION_COLUMNS),
        caption_columns={} if captions is None else _known(captions, CAPTION_COLUMNS),
        caption_figures=[] if captions is None else _caption_figures(captions),
        patches=patches,
        epochs=epochs,
        tables=[beside(page, ".csv", name).name for name in tables],
    )
    content: dict[str, Any] = {name: _records(table) for name, table in tables.items()}
    write_beside(page, content, tables)
    return page


def _fusion_figures(history: pd.DataFrame) -> list[tuple[Markup, str]]:
    """Each figure with its caption."""
    found = [
        (
            curves_figure(
                history, _known(history, LOSSES), name="losses", title="Training losses by epoch", label="training loss"
            ),
            "Losses on the training patches.",
        ),
        (
            curves_figure(
                history,
                _known(history, VALIDATION_LOSSES),
                name="validation",
                title="Validation losses by epoch",
                label="validation loss",
            ),
            "Losses on the validation patches.",
        ),
        (
            curves_figure(
                history,
                _known(history, ACCURACIES),
                name="accuracy",
                title="Balanced accuracy on the validation patches by epoch",
                label="balanced accuracy",
            ),
            "Balanced accuracy on the validation patches.",
        ),
        (alpha_figure(history), "α, the weight of the fused loss."),
    ]
    if set(GATE) <= set(history) and history["val_gate_q50"].notna().any():
        found.append((gate_figure(history), "The gate, trust in the text, over the validation patches that have one."))
    return found


def _caption_figures(history: pd.DataFrame) -> list[tuple[Markup, str]]:
    figures = [
        (
            captions_figure(
                history,
                {"loss": "training", "val_loss": "validation"},
                name="caption-losses",
                title="Losses of the fine-tuning by epoch",
                label="loss",
            ),
            "Loss per token, on training and validation patches.",
        )
    ]
    if history["finding_f1"].notna().sum() > 1:
        figures.append(
            (
                captions_figure(
                    history,
                    {"finding_f1": "finding macro-F1"},
                    name="caption-findings",
                    title="Finding macro-F1 by epoch",
                    label="finding macro-F1",
                ),
                "Findings in the captions of the sampled validation patches, against those known.",
            )
        )
    return figures


def _sampled(folder: Path, taxonomy: Taxonomy) -> list[SampledPatch]:
    """The first patches of the samples, with the text after every evaluation."""
    files = sorted((folder / "samples").glob("step-*.md"))
    if not files and (folder / "samples.md").is_file():
        files = [folder / "samples.md"]
    written: dict[str, dict[int, str]] = {}
    first: dict[str, WrittenSample] = {}
    for step, rows in map(read_samples, files):
        for row in rows:
            first.setdefault(row.patch_id, row)
            written.setdefault(row.patch_id, {})[step] = row.written
    # Evenly over the patches, which are sorted by patient.
    chosen = list(first)[:: max(1, len(first) // PATCHES)][:PATCHES]
    return [
        SampledPatch(
            patch=patch,
            picture=image_uri(read_image(first[patch].picture)) if first[patch].picture.is_file() else None,
            reference=first[patch].reference,
            written=written[patch],
            marked={step: highlight(text, taxonomy) for step, text in written[patch].items()},
            reference_marked=highlight(first[patch].reference, taxonomy),
        )
        for patch in chosen
    ]


def _history(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None


def _epoch_of_step(history: pd.DataFrame) -> dict[int, float]:
    return {int(step): float(epoch) for step, epoch in zip(history["step"], history["epoch"], strict=True)}


def _known(history: pd.DataFrame, columns: dict[str, str]) -> dict[str, str]:
    """Those of `columns` that this history has; an earlier version wrote fewer."""
    return {name: title for name, title in columns.items() if name in history}


def _rows(history: pd.DataFrame, columns: dict[str, str]) -> list[list[Any]]:
    return [list(row.values()) for row in _records(history[list(_known(history, columns))])]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `table`, what is not defined as None."""
    return table.astype(object).where(table.notna(), None).to_dict(orient="records")
