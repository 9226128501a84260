"""The rows that fusion works on: manifest and captions joined and checked."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.leakage import ClassNames, count_namings
from data.manifest import image_path, read_manifest
from data.taxonomy import Taxonomy
from fusion.captions import read_caption_texts
from fusion.config import TextSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patches:
    """N labelled patches, each list and array in the same order."""

    ids: list[str]
    images: list[Path]
    texts: list[str | None]
    """None where the text is missing."""
    labels: np.ndarray
    """(N,) index of the class in the taxonomy."""
    splits: np.ndarray
    """(N,) train, val or test."""
    slides: list[str | None]
    patients: list[str | None]
    extents: np.ndarray
    """(N,) side of each patch in µm; NaN where its resolution is unknown."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the rows of `split`."""
        return np.flatnonzero(self.splits == split)

    @property
    def missing_text(self) -> int:
        """Number of rows without text."""
        return sum(text is None for text in self.texts)


def read_patches(
    *, manifest: Path, captions: Path | None, text_source: TextSource, taxonomy: Taxonomy, splits: tuple[str, ...]
) -> Patches:
    """Read the rows of `splits` and their texts.

    Raises:
        InputError: a split without rows, a label outside the taxonomy, a patch without image, or no text for any patch.
    """
    frame = read_manifest(manifest)
    for split in splits:
        if not (frame["split"] == split).any():
            raise InputError(f"{manifest}: no rows with split {split}; make the split again with `mmlnb prepare`")
    frame = frame[frame["split"].isin(splits)].reset_index(drop=True)
    classes = {name: index for index, name in enumerate(taxonomy.class_names)}
    for patch, label, image in zip(frame["patch_id"], frame["label"], frame["image"], strict=True):
        if label not in classes:
            raise InputError(
                f"{manifest}: patch {patch} has the label {label}, which is none of {', '.join(classes)}; "
                "correct it or choose another taxonomy"
            )
        if image is None:
            raise InputError(f"{manifest}: patch {patch} has no image; prepare the manifest with patch images")
    texts = _texts(frame, manifest=manifest, captions=captions, text_source=text_source)
    namings = names_of_classes(texts, list(frame["label"]), taxonomy, text_source=text_source)
    if namings is not None:
        logger.warning("%s: %s", manifest if captions is None else captions, namings)
    return Patches(
        ids=list(frame["patch_id"]),
        images=[image_path(manifest, image) for image in frame["image"]],
        texts=texts,
        labels=frame["label"].map(classes).to_numpy(dtype=np.int64),
        splits=frame["split"].to_numpy(dtype=object),
        slides=list(frame["slide_id"]),
        patients=list(frame["patient_id"]),
        extents=frame["size_px"].to_numpy(dtype=float) * frame["mpp"].to_numpy(dtype=float),
    )


def owners(patients: Sequence[str | None], slides: Sequence[str | None], ids: Sequence[str]) -> list[str]:
    """Whose each row is: its patient; where that is unknown its slide, or else nobody's but its own."""
    return [str(patient or slide or one) for patient, slide, one in zip(patients, slides, ids, strict=True)]


def names_of_classes(
    texts: Sequence[str | None], labels: Sequence[str], taxonomy: Taxonomy, *, text_source: TextSource
) -> str | None:
    """A line about texts that name a class outright, from which a classifier could read the answer, or None."""
    names = ClassNames(taxonomy)
    pairs = [(names.mask(text).named, label) for text, label in zip(texts, labels, strict=True) if text is not None]
    what = "descriptions" if text_source == "description" else "captions"
    return count_namings([named for named, _ in pairs], [label for _, label in pairs], taxonomy, what=what)


def _texts(frame: "object", *, manifest: Path, captions: Path | None, text_source: TextSource) -> list[str | None]:
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    if text_source == "none":
        return [None] * len(frame)
    if text_source == "description":
        texts = [text.strip() or None if isinstance(text, str) else None for text in frame["description"]]
        source, remedy = manifest, "fill the column description, or train with --text_source none"
    else:
        if captions is None:
            raise InputError("captions: give the folder that `mmlnb caption` wrote, or set text_source to description")
        found = read_caption_texts(captions)
        texts = [found.texts.get(patch) for patch in frame["patch_id"]]
        source, remedy = captions, "caption this manifest with `mmlnb caption`"
    missing = sum(text is None for text in texts)
    if missing == len(texts):
        raise InputError(f"{source}: no text for any patch of {manifest}; {remedy}")
    if missing:
        logger.warning("%s: %d of %d patches have no text and are treated so", source, missing, len(texts))
    return texts
