"""Slides as rows: their patches' calls brought together, with one label and one patient each."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from fusion.aggregate import SlideCall, aggregate
from fusion.classified import Classified
from fusion.config import Aggregation, Arm
from fusion.predictions import Predictions

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
"""Ways from the patches of a slide to its probabilities; fields of `SlideCall`."""


@dataclass(frozen=True, eq=False)
class Slides:
    """The slides of some patches, in order of name."""

    ids: list[str]
    labels: np.ndarray
    """(S,) the label that most patches of the slide have."""
    owners: np.ndarray
    """(S,) the patient, or the slide itself where that is unknown."""
    patches: list[np.ndarray]
    """Indices of each slide's patches."""
    patches_without_slide: int
    mixed_labels: int
    """Slides in `ids` whose patches have several labels, of which the most frequent was taken."""
    left_out: dict[str, int]
    """Number of slides that are not in `ids`, by reason."""


def group_slides(predictions: Predictions) -> Slides | None:
    """Sort the patches by slide; None where none names its slide.

    A slide is left out where two labels are equally frequent, where it has patches of several patients, and where no
    patch of it shows tissue.
    """
    names = pd.Series(predictions.slides, dtype=object)
    if names.isna().all():
        return None
    left_out = {"tied_labels": 0, "several_patients": 0, "no_tissue": 0}
    kept: list[tuple[str, int, str, np.ndarray]] = []
    mixed = 0
    for slide, patches in names.groupby(names, sort=True).indices.items():
        labels = np.bincount(predictions.labels[patches], minlength=len(predictions.classes))
        patients = {patient for row in patches if (patient := predictions.patients[row]) is not None}
        if (labels == labels.max()).sum() > 1:
            left_out["tied_labels"] += 1
        elif len(patients) > 1:
            left_out["several_patients"] += 1
        elif not predictions.tissue[patches].any():
            left_out["no_tissue"] += 1
        else:
            mixed += int((labels > 0).sum() > 1)
            kept.append((str(slide), int(labels.argmax()), patients.pop() if patients else str(slide), patches))
    return Slides(
        ids=[slide for slide, _, _, _ in kept],
        labels=np.array([label for _, label, _, _ in kept], dtype=np.int64),
        owners=np.array([owner for _, _, owner, _ in kept], dtype=object),
        patches=[rows for _, _, _, rows in kept],
        patches_without_slide=int(names.isna().sum()),
        mixed_labels=mixed,
        left_out=left_out,
    )


def call_slides(slides: Slides, predictions: Predictions, arm: Arm) -> dict[Aggregation, Classified]:
    """The slides as `arm` calls them, by aggregation; one without tissue in the patches that count is missing."""
    counted = np.zeros(len(predictions), dtype=bool)
    counted[predictions.counted(arm)] = True
    calls: dict[int, SlideCall] = {}
    for place, patches in enumerate(slides.patches):
        rows = patches[counted[patches]]
        if predictions.tissue[rows].any():
            calls[place] = aggregate(predictions.arms[arm][rows], predictions.tissue[rows])
    places = np.array(list(calls), dtype=int)
    empty = np.zeros((0, len(predictions.classes)))
    return {
        name: Classified(
            labels=slides.labels[places],
            probabilities=np.stack([getattr(call, name) for call in calls.values()]) if calls else empty,
            owners=slides.owners[places],
        )
        for name in AGGREGATIONS
    }
