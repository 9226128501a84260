"""How far a model's calls suffer from wrong text and from worse images, and whether its gate notices."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from data.image import read_image
from data.taxonomy import Taxonomy
from fusion.image_corruption import IMAGE_CORRUPTIONS
from fusion.metrics import balanced_accuracy, measure
from fusion.patches import Patches, owners
from fusion.predictor import Prediction, Predictor
from fusion.reliability import calibration
from fusion.text_corruption import CORRUPTIONS, TextCase

RATES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
# Above it the fused features are more of the text than of the image.
_TRUST = 0.5


@dataclass(frozen=True)
class Point:
    """One corruption at one rate."""

    corruption: str
    modality: str
    """What is corrupted: text or image."""
    rate: float
    corrupted: float
    """Share of the patches whose text or image was changed."""
    fused_balanced_accuracy: float
    image_balanced_accuracy: float
    text_balanced_accuracy: float | None
    """Over the patches that have text; None where none has."""
    fused_macro_f1: float
    image_macro_f1: float
    fused_calibration_error: float
    gate_auroc: float | None
    """How well 1 - gate tells corrupted text from the rest; None where there is but one of them."""
    trusting: float | None
    """Share of the patches with corrupted text that the gate trusts by more than a half; None where there are none."""


def robustness(predictor: Predictor, patches: Patches, *, taxonomy: Taxonomy, seed: int, workers: int) -> pd.DataFrame:
    """A row for each corruption and rate, the fields of `Point` its columns.

    Args:
        patches: with their texts; those of one patient (slide or patch, where that is unknown) are not swapped.
        seed: of what is corrupted; the same patches at every model.
        workers: threads that read images.
    """
    points = list(_text_points(predictor, patches, taxonomy=taxonomy, seed=seed, workers=workers))
    points += _image_points(predictor, patches, seed=seed, workers=workers)
    return pd.DataFrame([asdict(point) for point in points])


def areas(points: pd.DataFrame) -> pd.DataFrame:
    """Area under each curve over the rates from 0 to 1, of which 1 is perfect, NaN where a point is not defined."""
    columns = [name for name in points if name.endswith(("balanced_accuracy", "macro_f1"))]

    def area(curve: pd.DataFrame) -> pd.Series:
        known = curve.sort_values("rate")
        return pd.Series({name: np.trapezoid(known[name].astype(float), known["rate"]) for name in columns})

    return points.groupby(["modality", "corruption"], sort=False)[[*columns, "rate"]].apply(area).reset_index()


def _text_points(
    predictor: Predictor, patches: Patches, *, taxonomy: Taxonomy, seed: int, workers: int
) -> Iterator[Point]:
    features = _encode(predictor, patches, workers=workers)
    case = TextCase(patches.texts, patches.labels, owners(patches.patients, patches.slides, patches.ids), taxonomy)
    for name, corrupt in tqdm(CORRUPTIONS.items(), desc="wrong text", unit="kind"):
        for rate in RATES:
            made = corrupt(case, rate, np.random.default_rng(seed))
            prediction = predictor.predict_features(features, made.texts)
            yield _point(name, "text", rate, made.corrupted, prediction, patches, made.texts)


def _image_points(predictor: Predictor, patches: Patches, *, seed: int, workers: int) -> Iterator[Point]:
    for name in tqdm(IMAGE_CORRUPTIONS, desc="worse images", unit="kind"):
        for rate in RATES:
            features = _encode(predictor, patches, workers=workers, corruption=name, rate=rate, seed=seed)
            prediction = predictor.predict_features(features, patches.texts)
            changed = np.full(len(patches), rate > 0)
            yield _point(name, "image", rate, changed, prediction, patches, patches.texts)


def _encode(
    predictor: Predictor,
    patches: Patches,
    *,
    workers: int,
    corruption: str | None = None,
    rate: float = 0.0,
    seed: int = 0,
) -> torch.Tensor:
    """Image features (N, D), one batch of images in memory at a time."""

    def read(row: int) -> np.ndarray:
        patch = read_image(patches.images[row])
        if corruption is None:
            return patch
        return IMAGE_CORRUPTIONS[corruption](patch, rate, np.random.default_rng([seed, row]))

    parts = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(patches), predictor.batch_size):
            rows = range(start, min(len(patches), start + predictor.batch_size))
            parts.append(predictor.encode_images(list(pool.map(read, rows))))
    return torch.cat(parts)


def _point(
    name: str,
    modality: str,
    rate: float,
    corrupted: np.ndarray,
    prediction: Prediction,
    patches: Patches,
    texts: Sequence[str | None],
) -> Point:
    labels, read = patches.labels, np.array([text is not None for text in texts])
    fused, image = measure(labels, prediction.fused), measure(labels, prediction.image)
    assert fused.macro_f1 is not None
    assert image.macro_f1 is not None
    error = calibration(labels, prediction.fused).error
    assert error is not None
    wrong = corrupted & read
    found = None
    if modality == "text" and wrong.any() and (read & ~corrupted).any():
        found = float(roc_auc_score(corrupted[read], 1 - prediction.gate[read]))
    return Point(
        corruption=name,
        modality=modality,
        rate=rate,
        corrupted=float(corrupted.mean()),
        fused_balanced_accuracy=balanced_accuracy(labels, prediction.fused.argmax(1)),
        image_balanced_accuracy=balanced_accuracy(labels, prediction.image.argmax(1)),
        text_balanced_accuracy=(
            balanced_accuracy(labels[read], prediction.text[read].argmax(1)) if read.any() else None
        ),
        fused_macro_f1=fused.macro_f1,
        image_macro_f1=image.macro_f1,
        fused_calibration_error=error,
        gate_auroc=found,
        trusting=float((prediction.gate[wrong] > _TRUST).mean()) if modality == "text" and wrong.any() else None,
    )
