"""Measure a trained model on held-out patches: image alone, text alone, and fused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.atomic import atomic, digest, write_json, write_text
from data.command import config_yaml, run_command
from data.errors import InputError
from data.image import read_image
from data.taxonomy import load_taxonomy
from fusion.config import EvaluateConfig
from fusion.metrics import Metrics, measure
from fusion.patches import Patches, read_patches
from fusion.predictor import Prediction, Predictor
from fusion.robustness import robustness
from fusion.robustness_report import REPORT_FILES, write_robustness
from fusion.trained_on import check_unseen

ARM_FIELDS = {"image_only": "image", "text_only": "text", "fused": "fused"}


def evaluate(config: EvaluateConfig) -> Path:
    """Classify the patches of one split and measure every arm; returns `config.out`.

    Writes config.yaml, metrics.json (per arm; `text_only` counts the patches that have text) and predictions.parquet,
    and with `robustness` what wrong text and worse images do to the calls.

    Raises:
        InputError: no finished model, one that has seen these patients, a manifest or captions that cannot be used, or
            a folder of another evaluation.
    """
    taxonomy_file = config.model / "taxonomy.yaml"
    if not taxonomy_file.is_file():
        raise InputError(f"{config.model}: holds no trained model; train one with `mmlnb train --out {config.model}`")
    predictor = Predictor.load(config.model, device=config.device)
    patches = read_patches(
        manifest=config.manifest,
        captions=config.captions,
        text_source=config.text_source,
        taxonomy=load_taxonomy(taxonomy_file),
        splits=(config.split,),
    )
    check_unseen(config.model, patches, split=config.split)
    key = evaluation_key(config)
    _claim(config.out, key=key)
    write_text(config.out / "config.yaml", config_yaml(config))
    prediction = _predict(predictor, patches, config=config)
    metrics = {arm: measure_arm(arm, prediction, patches) for arm in ARM_FIELDS}
    _write_predictions(config.out / "predictions.parquet", predictor, patches, prediction)
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
            **{arm: measured.as_dict() for arm, measured in metrics.items()},
        },
    )
    tqdm.write(_table(config, metrics))
    return config.out


def measure_arm(arm: str, prediction: Prediction, patches: Patches) -> Metrics:
    """Metrics of `arm`; the text's are over the patches that have a text."""
    counted = np.ones(len(patches), dtype=bool)
    if arm == "text_only":
        counted = np.array([text is not None for text in patches.texts])
    return measure(patches.labels[counted], getattr(prediction, ARM_FIELDS[arm])[counted])


def _predict(predictor: Predictor, patches: Patches, *, config: EvaluateConfig) -> Prediction:
    """Predict all patches, one batch of images in memory at a time."""
    parts = []
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        for start in tqdm(range(0, len(patches), config.batch_size), desc="evaluating", unit="batch"):
            chosen = slice(start, start + config.batch_size)
            images = list(pool.map(read_image, patches.images[chosen]))
            parts.append(predictor.predict(images, patches.texts[chosen]))
    return Prediction(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ("fused", "image", "text", "gate")}
    )


def _write_predictions(path: Path, predictor: Predictor, patches: Patches, prediction: Prediction) -> None:
    columns: dict[str, object] = {
        "patch_id": patches.ids,
        "label": [predictor.class_names[label] for label in patches.labels],
        "slide_id": patches.slides,
        "patient_id": patches.patients,
    }
    for arm, field in ARM_FIELDS.items():
        probabilities = getattr(prediction, field)
        columns |= {f"{arm}_{name}": probabilities[:, index] for index, name in enumerate(predictor.class_names)}
    columns["gate"] = prediction.gate
    with atomic(path) as temporary:
        pd.DataFrame(columns).to_parquet(temporary, index=False)


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
        not out.is_dir()
        or {path.name for path in out.iterdir()} - {"config.yaml", "predictions.parquet", *REPORT_FILES}
    ):
        raise InputError(f"{out}: holds files that are not of an evaluation; choose another --out or empty it")


def _table(config: EvaluateConfig, metrics: dict[str, Metrics]) -> str:
    lines = [f"{config.split + ' split':<14}{'patches':>8}{'balanced accuracy':>19}{'AUROC':>8}{'macro F1':>10}"]

    def shown(value: float | None) -> str:
        return "—" if value is None else f"{value:.3f}"

    lines += [
        f"{arm:<14}{measured.patches:>8}{shown(measured.balanced_accuracy):>19}{shown(measured.auroc):>8}"
        f"{shown(measured.macro_f1):>10}"
        for arm, measured in metrics.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run_command(evaluate, EvaluateConfig, name="evaluate"))
