"""What is saved where patches that are nearly alike are described once, and what it does to the text; one JSON line."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.captions import read_captions
from data.command import make_config
from data.config import PrepareConfig, TileConfig
from data.findings import read_findings
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from data.tile_slides import tile
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.train import finetune

THRESHOLDS = (0.999, 0.99, 0.98, 0.95, 0.9)


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=24, help="synthetic patients of 20 patches each, to train on")
    parser.add_argument("--slides", type=Path, help="folder of slides; without, synthetic ones of other patients")
    parser.add_argument("--mpp", type=float, default=1.0, help="µm per pixel of slides whose file states none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), arguments.patients, arguments.slides, arguments.mpp)))


def measure(folder: Path, patients: int, slides: Path | None, mpp: float) -> dict[str, Any]:
    """Describe all patches of `slides`, then again at each threshold."""
    synth(SynthConfig(out=folder / "synth", patients=patients, patches_per_patient=20, slides=0, seed=5))
    prepare(PrepareConfig(source=folder / "synth" / "labels.csv", out=folder / "patches.parquet", seed=5))
    run = folder / "adapter"
    finetune(make_config(FinetuneConfig, name="finetune", config="tiny", manifest=folder / "patches.parquet", out=run))
    if slides is None:
        synth(SynthConfig(out=folder / "other", patients=4, patches_per_patient=1, slides=4, seed=77))
        slides = folder / "other" / "slides"
    tile(TileConfig(slides=slides, out=folder / "tiles.parquet", mpp=mpp))
    settings = {"config": "tiny", "manifest": folder / "tiles.parquet", "slides": slides, "mpp": mpp, "adapter": run}
    whole = described(folder / "whole", settings, dedupe=None)
    found = {}
    for threshold in THRESHOLDS:
        frame = described(folder / f"{threshold}", settings, dedupe=threshold)
        copies = frame["copy_of"].notna()
        same = frame["text"] == whole["text"]
        findings = frame["findings"] == whole["findings"]
        found[threshold] = {
            "saved": round(float(copies.mean()), 4),
            "same_text": round(float(same[copies].mean()), 4) if copies.any() else None,
            "same_findings": round(float(findings[copies].mean()), 4) if copies.any() else None,
        }
        print(threshold, found[threshold])
    chance = np.random.default_rng(0).permutation(len(whole))
    by_chance = (whole["findings"].to_numpy() == whole["findings"].to_numpy()[chance]).mean()
    return {
        "name": "dedupe",
        "patches": len(whole),
        "by_cosine": found,
        "same_findings_of_any_two": round(float(by_chance), 4),
    }


def described(out: Path, settings: dict[str, Any], *, dedupe: float | None) -> pd.DataFrame:
    """Captions by patch, with the findings that their text states."""
    frame = read_captions(caption(make_config(CaptionConfig, name="caption", out=out, dedupe=dedupe, **settings)))
    taxonomy = load_taxonomy()
    frame = frame[frame["error"].isna()].set_index("patch_id").sort_index()
    return frame.assign(findings=[str(sorted(read_findings(text, taxonomy).items())) for text in frame["text"]])


if __name__ == "__main__":
    main()
