"""The report of a whole run: what was measured on held-out patients, sample captions, and the slides."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from data.errors import InputError
from data.image import read_image
from data.manifest import image_path, read_manifest
from data.taxonomy import Taxonomy, load_taxonomy
from mmlnb.config import ReportConfig
from mmlnb.model_card import ARMS
from mmlnb.pages.figures import confusion_figure, curriculum_figure
from mmlnb.pages.highlight import highlight
from mmlnb.pages.page import image_uri, write_page
from mmlnb.palette import class_colours, css
from mmlnb.slide_record import SlideRecord, read_records

SAMPLES_PER_CLASS = 2


@dataclass(frozen=True)
class Sample:
    """One held-out patch with what a person and the models wrote about it."""

    picture: str
    label: str
    texts: dict[str, Markup]
    """Whose text it is to the text, findings marked."""
    probabilities: dict[str, float]
    gate: float


def report(config: ReportConfig) -> Path:
    """Write `index.html` for the run and return its path.

    Raises:
        InputError: the folder holds neither an evaluation nor called slides.
    """
    run = config.run
    out = config.out or run / "report"
    metrics = _read_json(run / "evaluate" / "metrics.json")
    records = read_records(run / "infer")
    if metrics is None and not records:
        raise InputError(f"{run}: holds neither evaluate/metrics.json nor infer/; give the folder of a run")
    taxonomy = _taxonomy(run)
    scores = _read_json(run / "caption-scores.json")
    truth = _slide_truth(run)
    history = run / "train" / "history.csv"
    write_page(
        "run.html.j2",
        out / "index.html",
        taxonomy=taxonomy,
        colours={name: css(colour) for name, colour in class_colours(taxonomy).items()},
        summary=_read_json(run / "summary.json"),
        metrics=metrics,
        arms=ARMS,
        scores=scores,
        confusion=None if metrics is None else confusion_figure(metrics["fused"]["confusion"], taxonomy),
        curriculum=curriculum_figure(pd.read_csv(history)) if history.is_file() else None,
        samples=_samples(run, taxonomy) if metrics is not None else [],
        records=records,
        slides_folder=Path(os.path.relpath(run / "infer" / "slides", out)).as_posix(),
        truth=truth,
        accuracy=slide_accuracy(records, truth),
    )
    return out / "index.html"


def _taxonomy(run: Path) -> Taxonomy:
    for file in (run / "train" / "taxonomy.yaml", run / "bundle" / "taxonomy.yaml"):
        if file.is_file():
            return load_taxonomy(file)
    raise InputError(f"{run}: holds no taxonomy.yaml (in train/ or bundle/); give the folder of a run")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _slide_truth(run: Path) -> dict[str, str]:
    """Known class of each slide, where the slides are synthetic."""
    path = run / "synth" / "slides.csv"
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype=str)
    return dict(zip(rows["slide"], rows["label"], strict=True))


def _samples(run: Path, taxonomy: Taxonomy) -> list[Sample]:
    """The first held-out patches of each class, with the texts there are."""
    manifest = run / "patches.parquet"
    if not manifest.is_file():
        return []
    from vlm_finetune.caption import read_captions

    rows = read_manifest(manifest).set_index("patch_id")
    predictions = pd.read_parquet(run / "evaluate" / "predictions.parquet").set_index("patch_id")
    writers = {
        name: read_captions(run / folder).set_index("patch_id")["text"]
        for name, folder in (("Base model", "captions-base"), ("Fine-tuned model", "captions"))
        if (run / folder).is_dir()
    }
    chosen = predictions.groupby("label", sort=False).head(SAMPLES_PER_CLASS)
    samples = []
    for label in taxonomy.class_names:
        for patch, prediction in chosen[chosen["label"] == label].iterrows():
            row = rows.loc[patch]
            texts = {"Description": row["description"]} if row["description"] else {}
            texts |= {name: written[patch] for name, written in writers.items() if written.get(patch)}
            samples.append(
                Sample(
                    picture=image_uri(read_image(image_path(manifest, row["image"]))),
                    label=label,
                    texts={name: highlight(text, taxonomy) for name, text in texts.items()},
                    probabilities={name: float(prediction[f"fused_{name}"]) for name in taxonomy.class_names},
                    gate=float(prediction["gate"]),
                )
            )
    return samples


def slide_accuracy(records: list[SlideRecord], truth: dict[str, str]) -> float | None:
    """Share of the slides with a known class that were called right; an uncalled one counts as wrong."""
    known = [record.subtype == truth[record.slide] for record in records if record.slide in truth]
    return sum(known) / len(known) if known else None
