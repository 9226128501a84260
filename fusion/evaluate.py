"""Measure a trained model on held-out patches: image alone, text alone, and fused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.atomic import digest, write_json, write_text
from data.command import config_yaml, run_command
from data.errors import InputError
from data.image import read_image
from data.taxonomy import load_taxonomy
from data.tissue import tissue_share
from fusion.assessment import Assessment, assess
from fusion.config import Arm, EvaluateConfig
from fusion.held_out import check_measured
from fusion.patches import Patches, read_patches
from fusion.predictions import ARMS, PREDICTIONS, Predictions, write_predictions
from fusion.predictor import Predictor
from fusion.robustness import robustness
from fusion.robustness_report import REPORT_FILES, write_robustness
from fusion.slide_level import AGGREGATIONS, call_slides, group_slides

LEAKAGE = "leakage.json"


def evaluate(config: EvaluateConfig) -> Path:
    """Classify the patches of one split and measure every arm, by patch and by slide; returns `config.out`.

    Writes config.yaml, leakage.json (what was compared with what the model has seen), predictions.parquet and
    metrics.json (docs/evidence.md has its fields; `text_only` counts the patches that have text), and with `robustness`
    what wrong text and worse images do to the calls.

    Raises:
        InputError: no finished model, one that has seen these patients or pictures or whose calibration or captions
            have, a manifest or captions that cannot be used, or a folder of another evaluation.
    """
    taxonomy_file = config.model / "taxonomy.yaml"
    if not taxonomy_file.is_file():
        raise InputError(f"{config.model}: holds no trained model; train one with `mmlnb train --out {config.model}`")
    predictor = Predictor.load(config.model, device=config.device, trusted=config.trust_remote_code)
    patches = read_patches(
        manifest=config.manifest,
        captions=config.captions,
        text_source=config.text_source,
        taxonomy=load_taxonomy(taxonomy_file),
        splits=(config.split,),
    )
    compared = check_measured(config, patches)
    key = evaluation_key(config)
    _claim(config.out, key=key)
    write_text(config.out / "config.yaml", config_yaml(config))
    write_json(config.out / LEAKAGE, compared)
    predictions = _predict(predictor, patches, config=config)
    write_predictions(config.out / PREDICTIONS, predictions)
    arms = {
        arm: assess(predictions.classified(arm).some(predictions.counted(arm)), predictions.classes, seed=config.seed)
        for arm in ARMS
    }
    slides = _slides(predictions, seed=config.seed)
    if config.robustness:
        points = robustness(
            predictor, patches, taxonomy=load_taxonomy(taxonomy_file), seed=config.seed, workers=config.workers
        )
        tqdm.write(write_robustness(points, config.out))
    # Last, since its presence says that the evaluation is whole.
    write_json(
        config.out / "metrics.json",
        {
            "key": key,
            "split": config.split,
            "classes": list(predictor.class_names),
            "patients": len(set(patches.patients)),
            "missing_text": patches.missing_text,
            **{arm: measured.as_dict() for arm, measured in arms.items()},
            "slides": slides,
            "slides_reason": None if slides else "no patch names its slide",
        },
    )
    tqdm.write(_table(config, arms, slides))
    return config.out


def _predict(predictor: Predictor, patches: Patches, *, config: EvaluateConfig) -> Predictions:
    """Predict all patches, one batch of images in memory at a time."""
    found, tissue = [], []
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        for start in tqdm(range(0, len(patches), config.batch_size), desc="evaluating", unit="batch"):
            chosen = slice(start, start + config.batch_size)
            images = list(pool.map(read_image, patches.images[chosen]))
            tissue += list(pool.map(tissue_share, images))
            found.append(predictor.predict(images, patches.texts[chosen]))
    return Predictions(
        classes=tuple(predictor.class_names),
        ids=patches.ids,
        labels=patches.labels,
        slides=patches.slides,
        patients=patches.patients,
        has_text=np.array([text is not None for text in patches.texts]),
        tissue=np.array(tissue, dtype=np.float32),
        gate=np.concatenate([part.gate for part in found]),
        arms={
            "image_only": np.concatenate([part.image for part in found]),
            "text_only": np.concatenate([part.text for part in found]),
            "fused": np.concatenate([part.fused for part in found]),
        },
    )


def _slides(predictions: Predictions, *, seed: int) -> dict[str, Any] | None:
    """Measures of every aggregation and arm over slides, as JSON holds them; None where no patch names its slide."""
    slides = group_slides(predictions)
    if slides is None:
        return None
    calls = {arm: call_slides(slides, predictions, arm) for arm in ARMS}
    return {
        "count": len(slides.ids),
        "patients": len(set(slides.owners)),
        "patches_without_slide": slides.patches_without_slide,
        "mixed_labels": slides.mixed_labels,
        "left_out": slides.left_out,
        "aggregations": {
            name: {
                arm: assess(rows[name], predictions.classes, seed=seed).as_dict(rows="slides")
                for arm, rows in calls.items()
            }
            for name in AGGREGATIONS
        },
    }


def evaluation_key(config: EvaluateConfig) -> str:
    """Hash of what decides the figures: the weights, the rows and their text."""
    parts = sorted(config.captions.glob("part-*.parquet")) if config.captions is not None else []
    files = [
        config.model / "model" / "fusion.safetensors",
        config.model / "calibration.json",
        config.manifest,
        *parts,
    ]
    settings = {name: str(asdict(config)[name]) for name in ("split", "text_source")}
    return digest(str(settings), *(file.read_bytes() for file in files))


def _claim(out: Path, *, key: str) -> None:
    """Refuse a folder that holds something else than an evaluation of the same model on the same rows."""
    import json

    metrics = out / "metrics.json"
    if metrics.is_file():
        try:
            held = json.loads(metrics.read_text(encoding="utf-8")).get("key")
        except ValueError:
            held = None
        if held != key:
            raise InputError(f"{out}: holds another evaluation; choose another --out or delete it")
    elif out.exists() and (
        not out.is_dir() or {path.name for path in out.iterdir()} - {"config.yaml", PREDICTIONS, LEAKAGE, *REPORT_FILES}
    ):
        raise InputError(f"{out}: holds files that are not of an evaluation; choose another --out or empty it")


def _table(config: EvaluateConfig, arms: dict[Arm, Assessment], slides: dict[str, Any] | None) -> str:
    head = f"{config.split + ' split':<26}{'rows':>7}{'balanced accuracy (95 %)':>27}{'AUROC':>8}{'macro F1':>10}"
    measured = {arm: assessment.as_dict() for arm, assessment in arms.items()}
    lines = [_line(arm, figures, rows="patches") for arm, figures in measured.items()]
    if slides:
        lines += [
            _line(f"slides, {name.replace('_', ' ')}", aggregated["fused"], rows="slides")
            for name, aggregated in slides["aggregations"].items()
        ]
    return "\n".join([head, *lines])


def _line(name: str, figures: dict[str, Any], *, rows: str) -> str:
    def shown(value: float | None) -> str:
        return "—" if value is None else f"{value:.3f}"

    balanced = shown(figures["balanced_accuracy"])
    if interval := figures["intervals"]["balanced_accuracy"]:
        balanced += f" ({shown(interval[0])}–{shown(interval[1])})"
    return f"{name:<26}{figures[rows]:>7}{balanced:>27}{shown(figures['auroc']):>8}{shown(figures['macro_f1']):>10}"


if __name__ == "__main__":
    raise SystemExit(run_command(evaluate, EvaluateConfig, name="evaluate"))
