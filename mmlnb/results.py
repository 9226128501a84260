"""What a pipeline returns to Python: one slide, or plain patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from data.taxonomy import Taxonomy
from fusion.intervals import Interval
from mmlnb.called_slide import CalledSlide
from mmlnb.findings_profile import FindingShare, findings_profile, read_stated
from mmlnb.slide_outputs import prediction_table
from mmlnb.slide_summary import count_slide, summary, text_of

if TYPE_CHECKING:
    from fusion.predictor import Prediction
    from mmlnb.slide_prediction import SlidePrediction


@dataclass(frozen=True, eq=False, kw_only=True)
class SlideResult:
    """A called slide: the same values as `mmlnb infer` writes."""

    slide: str
    """Name of the slide."""
    subtype: str
    """The class that is called."""
    title: str
    """The class in words."""
    probabilities: Mapping[str, float]
    """Class to probability, patches weighted by their tissue."""
    intervals: Mapping[str, Interval]
    """Class to the 95 % interval of its probability over the parts of the slide; None where it has too few."""
    image_probabilities: Mapping[str, float]
    """Class to probability from the image alone."""
    findings: tuple[FindingShare, ...]
    """How often each finding is stated over the described patches; empty where none was described."""
    summary: str
    """A paragraph made of counts over the patches."""
    patches: pd.DataFrame
    """One row per patch used: the table predictions/<slide>.parquet."""
    captioned: int
    """Patches that were described."""
    left_out: Mapping[str, int]
    """Reason to the number of tiles that have no say in the call."""
    remarks: str
    """What is odd about the slide; empty for nothing."""
    mpp: float
    """µm per level-0 pixel."""
    mpp_origin: str
    """Where the resolution comes from: file or call."""
    notice: str
    """What whoever reads the result must know of the models."""
    bundle: str
    """Key of the bundle that called it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchResults:
    """What the models say of N plain patches and C classes."""

    class_names: tuple[str, ...]
    fused: np.ndarray
    """Probability per class, image and text together, float32 (N, C)."""
    image: np.ndarray
    """Probability per class from the image alone, float32 (N, C)."""
    gate: np.ndarray
    """Trust in the text, float32 (N,); 0 where there is none."""
    texts: tuple[str | None, ...]
    """Caption of each patch; None where it was not described or the model failed to."""
    findings: tuple[Mapping[str, str] | None, ...]
    """What each caption states, finding to value; None where there is no caption."""
    notice: str
    bundle: str
    """Key of the bundle that called them."""

    @property
    def calls(self) -> tuple[str, ...]:
        """The most probable class of each patch."""
        return tuple(self.class_names[index] for index in self.fused.argmax(axis=1))


def slide_result(
    called: CalledSlide, prediction: "SlidePrediction", *, taxonomy: Taxonomy, notice: str, bundle: str
) -> SlideResult:
    """Bring together what is known of a called slide."""
    record, names = called.record, taxonomy.class_names
    stated = read_stated(called.texts, taxonomy)
    profile = findings_profile(stated, taxonomy)
    return SlideResult(
        slide=record.slide,
        subtype=record.subtype,
        title=taxonomy.classes[record.subtype].title,
        probabilities=record.probabilities,
        intervals=dict(zip(names, called.intervals, strict=True)),
        image_probabilities=dict(zip(names, map(float, called.image_call.tissue_weighted), strict=True)),
        findings=tuple(profile),
        summary=text_of(summary(count_slide(called.called_patches(taxonomy), stated, profile, taxonomy))),
        patches=prediction_table(prediction, taxonomy).to_pandas(),
        captioned=record.captioned,
        left_out=record.rejected,
        remarks=record.reason,
        mpp=prediction.prepared.slide.mpp.value,
        mpp_origin=record.mpp_origin,
        notice=notice,
        bundle=bundle,
    )


def patch_results(
    texts: list[str | None], found: "Prediction", *, taxonomy: Taxonomy, notice: str, bundle: str
) -> PatchResults:
    """Bring together what the models say of plain patches."""
    return PatchResults(
        class_names=taxonomy.class_names,
        fused=found.fused,
        image=found.image,
        gate=found.gate,
        texts=tuple(texts),
        findings=tuple(read_stated(texts, taxonomy)),
        notice=notice,
        bundle=bundle,
    )
