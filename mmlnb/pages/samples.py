"""A few held-out patches, with what a person and the models wrote about them."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from data.image import read_image
from data.manifest import image_path, read_manifest
from data.taxonomy import Taxonomy
from mmlnb.pages.highlight import highlight
from mmlnb.pages.page import image_uri

SAMPLES_PER_CLASS = 2


@dataclass(frozen=True)
class Sample:
    """One held-out patch."""

    patch: str
    picture: str
    label: str
    texts: dict[str, str]
    """Whose text it is to the text."""
    marked: dict[str, Markup]
    """The same with the findings marked."""
    probabilities: dict[str, float]
    gate: float


def held_out_samples(run: Path, taxonomy: Taxonomy) -> list[Sample]:
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
                    patch=str(patch),
                    picture=image_uri(read_image(image_path(manifest, row["image"]))),
                    label=label,
                    texts=texts,
                    marked={name: highlight(text, taxonomy) for name, text in texts.items()},
                    probabilities={name: float(prediction[f"fused_{name}"]) for name in taxonomy.class_names},
                    gate=float(prediction["gate"]),
                )
            )
    return samples
