"""A run folder as the stages leave it, without models: what pages are written from."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.atomic import write_json, write_text
from data.taxonomy import Taxonomy, load_taxonomy
from data.tiles import Tile
from data.tissue import Outline
from fusion.assessment import assess
from fusion.classified import Classified
from fusion.config import Arm
from mmlnb.called_slide import CalledSlide
from mmlnb.pages.measures import AGGREGATIONS
from mmlnb.slide_record import SlideRecord, write_record
from vlm_finetune.written_samples import cell_of

ARMS: tuple[Arm, ...] = ("image_only", "text_only", "fused")
CAPTIONS = (
    "Abundant neuropil with Homer Wright rosettes, but no necrosis.",
    "The field shows high cellularity and no neuropil.",
    "Scant neuropil; <script>alert('caption')</script> no rosettes & no calcification.",
    "Nothing that is known by name.",
    None,
)


def write_run(run: Path, *, slides: int = 4, failed: int = 1, patients: int = 12, seed: int = 0) -> Path:
    """Write evaluate/, train/, finetune/ and the records of infer/; returns `run`."""
    taxonomy = load_taxonomy()
    random = np.random.default_rng(seed)
    write_text(run / "train" / "taxonomy.yaml", taxonomy.source)
    write_json(run / "evaluate" / "metrics.json", draw_metrics(taxonomy.class_names, patients=patients, seed=seed))
    _write_histories(run, random)
    for number in range(slides):
        write_record(run / "infer", draw_record(f"S{number:03d}.svs", taxonomy, random, failed=number < failed))
    return run


@cache
def draw_metrics(classes: tuple[str, ...], *, patients: int, seed: int = 0, texts: bool = True) -> dict[str, Any]:
    """What `evaluate` writes of patches and slides mostly called right, with or without `texts`."""
    random = np.random.default_rng(seed)

    def rows(count: int) -> Classified:
        labels = np.arange(count) % len(classes)
        scores = random.dirichlet(np.ones(len(classes)), count) + 0.6 * np.eye(len(classes))[labels]
        owners = np.array([f"P{number % patients}" for number in range(count)], dtype=object)
        return Classified(labels, scores / scores.sum(axis=1, keepdims=True), owners)

    def arms(count: int, unit: str) -> dict[str, Any]:
        counts = {arm: count if texts or arm != "text_only" else 0 for arm in ARMS}
        return {arm: assess(rows(some), classes, seed=seed).as_dict(rows=unit) for arm, some in counts.items()}

    return {
        "key": "0",
        "split": "test",
        "classes": list(classes),
        "patients": patients,
        "missing_text": 0,
        **arms(10 * patients, "patches"),
        "slides": {
            "count": patients,
            "patients": patients,
            "patches_without_slide": 0,
            "mixed_labels": 1,
            "left_out": {"tied_labels": 2, "several_patients": 0, "no_tissue": 0},
            "aggregations": {name: arms(patients, "slides") for name in AGGREGATIONS},
        },
        "slides_reason": None,
    }


def draw_record(slide: str, taxonomy: Taxonomy, random: np.random.Generator, *, failed: bool = False) -> SlideRecord:
    """The outcome of a slide."""
    if failed:
        return SlideRecord(slide=slide, status="failed", reason=f"{slide}: <b>cannot</b> be read", seconds=0.3)
    probabilities = dict(zip(taxonomy.class_names, map(float, random.dirichlet(np.ones(3))), strict=True))
    return SlideRecord(
        slide=slide,
        status="ok",
        subtype=max(probabilities, key=lambda name: probabilities[name]),
        probabilities=probabilities,
        mean_probabilities=probabilities,
        patches=200,
        captioned=190,
        rejected={"background": 300, "pen": 4, "blur": 2},
        mpp=0.5,
        mpp_origin="file",
        seconds=12.3,
    )


def draw_slide(taxonomy: Taxonomy, *, columns: int = 8, captions: tuple[str | None, ...] = CAPTIONS) -> CalledSlide:
    """A called slide of `columns` times as many patches, its captions one after the other."""
    random = np.random.default_rng(0)
    count, size = columns * columns, 224
    fused = random.dirichlet((6, 2, 1), count).astype(np.float32)
    tiles = tuple(
        Tile(x=size * (index % columns), y=size * (index // columns), size_px=float(size), tissue=0.9)
        for index in range(count)
    )
    record = draw_record("folder/a b.svs", taxonomy, random)
    weighted = fused.mean(axis=0).tolist()
    side = float(columns * size)
    return CalledSlide(
        record=SlideRecord(
            **asdict(record)
            | {
                "subtype": taxonomy.class_names[int(np.argmax(weighted))],
                "probabilities": dict(zip(taxonomy.class_names, weighted, strict=True)),
                "patches": count,
                "captioned": sum(captions[index % len(captions)] is not None for index in range(count)),
            }
        ),
        width=columns * size,
        thumbnail=np.full((90, 90, 3), 220, dtype=np.uint8),
        outlines=[Outline(exterior=np.array([(0, 0), (side, 0), (side, side), (0, side)]), holes=())],
        tissue_mm2=1.25,
        tiles=tiles,
        fused=fused,
        image=random.dirichlet((6, 2, 1), count).astype(np.float32),
        gate=random.random(count).astype(np.float32),
        texts=tuple(captions[index % len(captions)] for index in range(count)),
        left_out=[(Tile(x=0, y=0, size_px=float(size)), "pen")],
        target_mpp=0.5,
        tile_px=size,
    )


def read_any(slide: CalledSlide) -> Any:
    """What gives grey pixels for the tiles of `slide`."""
    return lambda tiles: {tile: np.full((slide.tile_px, slide.tile_px, 3), 128, np.uint8) for tile in tiles}


def _write_histories(run: Path, random: np.random.Generator) -> None:
    epochs = 12
    falling = np.linspace(2, 0.3, epochs).round(6)
    columns = {
        "stage": ["image"] * 4 + ["joint"] * 5 + ["fusion"] * 3,
        "epoch": range(1, epochs + 1),
        "alpha": np.linspace(0.3, 1, epochs).round(3),
        **dict.fromkeys(("loss", "loss_fused", "loss_image", "loss_text", "val_loss", "val_stage_loss"), falling),
        **{f"val_{arm}balanced_accuracy": 1 - falling / 3 for arm in ("", "image_", "text_")},
        **{f"val_gate_q{share}": random.random(epochs).round(6) for share in ("05", "25", "50", "75", "95")},
        "kept": [False] * (epochs - 1) + [True],
        "weights": ["0" * 32] * epochs,
    }
    with_text = pd.DataFrame(columns)
    (run / "finetune" / "samples").mkdir(parents=True)
    with_text.to_csv(run / "train" / "history.csv", index=False)
    pd.DataFrame(
        {
            "step": [10, 20, 30],
            "epoch": [1.0, 2.0, 3.0],
            "loss": [1.5, 0.8, 0.5],
            "learning_rate": [1e-3, 5e-4, 0.0],
            "grad_norm": [None, None, None],
            "val_loss": [1.2, 0.9, 0.7],
            "finding_f1": [0.2, 0.5, 0.8],
        }
    ).to_csv(run / "finetune" / "history.csv", index=False)
    for step in (10, 20, 30):
        rows = [
            f'| <img src="../no/{n}.jpg" width="224" alt=""><br>P1/{n}.jpg | {cell_of("No neuropil.")} '
            f"| {cell_of(f'<script>{step}</script> scant neuropil | no rosettes')} |"
            for n in range(3)
        ]
        head = f"# Samples after {step} steps\n\nFinding macro-F1 0.5 on 3 validation patches.\n\n"
        table = "| patch | reference | written |\n|---|---|---|\n"
        write_text(run / "finetune" / "samples" / f"step-{step:06d}.md", head + table + "\n".join(rows) + "\n")


def old_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """`metrics` as an earlier version wrote them: no classes of their own, calibration, intervals or slides."""
    new = ("per_class", "auprc", "calibration", "risk_coverage", "intervals", "intervals_remark")
    old = json.loads(json.dumps({name: value for name, value in metrics.items() if not name.startswith("slides")}))
    for arm in ARMS:
        for name in new:
            del old[arm][name]
    return dict(old)
