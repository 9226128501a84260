"""Predictions without a model, for what is measured of them."""

from pathlib import Path

import numpy as np

from data.atomic import write_json
from fusion.predictions import ARMS, PREDICTIONS, Predictions, write_predictions

CLASSES = ("UD", "PD", "D")


def draw_predictions(
    *, patients: int = 12, patches: int = 6, skill: float = 0.4, seed: int = 0, slides: bool = True
) -> Predictions:
    """One slide per patient; every arm is right more often than chance by `skill`, and each on its own."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(patients) % 3, patches)
    names = np.repeat([f"patient {one:02d}" for one in range(patients)], patches)

    def arm() -> np.ndarray:
        scores = random.dirichlet(np.ones(3), len(labels)) + skill * np.eye(3)[labels]
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)

    return Predictions(
        classes=CLASSES,
        ids=[f"patch {row}" for row in range(len(labels))],
        labels=labels,
        slides=[f"{name}.svs" if slides else None for name in names],
        patients=list(names),
        has_text=np.ones(len(labels), dtype=bool),
        tissue=np.linspace(0.5, 1, len(labels), dtype=np.float32),
        gate=random.random(len(labels)).astype(np.float32),
        arms={name: arm() for name in ARMS},
    )


def write_evaluation(folder: Path, predictions: Predictions) -> Path:
    """Write what `compare` reads of an evaluation; returns `folder`."""
    write_predictions(folder / PREDICTIONS, predictions)
    write_json(folder / "metrics.json", {"key": "0", "classes": list(predictions.classes)})
    return folder
