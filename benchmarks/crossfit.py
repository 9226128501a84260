"""What text of an adapter that knows its patients costs the fusion on others; one JSON line last."""

import argparse
import json
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.command import make_config
from data.config import PrepareConfig
from data.manifest import read_manifest
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from fusion.config import EvaluateConfig, TrainConfig
from fusion.evaluate import evaluate
from fusion.train import train
from mmlnb.caption_scores import score_captions
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.train import finetune
from vlm_finetune.unseen import FOLDS_FOLDER

ARMS = ("text_only", "fused", "image_only")
MEASURES = ("balanced_accuracy", "auroc", "log_loss")


def main() -> None:
    """Measure over several seeds, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=36, help="synthetic patients of 20 patches each")
    parser.add_argument("--epochs", type=float, default=12, help="of fine-tuning")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="repetitions with other tissue, splits and weights")
    arguments = parser.parse_args()
    found = []
    for seed in range(1, arguments.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder), arguments, seed=seed))
        print(json.dumps({"seed": seed} | found[-1]), flush=True)
    mean = {
        way: {name: round(statistics.fmean(one[way][name] for one in found), 4) for name in found[0][way]}
        for way in found[0]
    }
    print(json.dumps({"name": "crossfit", "seeds": arguments.seeds, **mean, "by_seed": found}))


def measure(folder: Path, arguments: argparse.Namespace, *, seed: int) -> dict[str, dict[str, float]]:
    """Figures of the fusion trained on captions of adapters that had seen the patients, and that had not."""
    synth(SynthConfig(out=folder / "synth", patients=arguments.patients, patches_per_patient=20, slides=0, seed=seed))
    manifest = folder / "patches.parquet"
    source = folder / "synth" / "labels.csv"
    prepare(PrepareConfig(source=source, out=manifest, val_fraction=0.15, test_fraction=0.45, seed=seed))
    settings = make_config(
        FinetuneConfig, name="finetune", config="tiny", manifest=manifest, out=folder / "crossfitted"
    )
    finetune(replace(settings, epochs=arguments.epochs, crossfit=arguments.folds, seed=seed))
    # Without the adapters of the folds every patient is described by the one that was trained on all.
    shutil.copytree(folder / "crossfitted", folder / "seen", ignore=shutil.ignore_patterns(FOLDS_FOLDER))
    return {way: fuse(folder / way, manifest, seed=seed) for way in ("seen", "crossfitted")}


def fuse(adapter: Path, manifest: Path, *, seed: int) -> dict[str, float]:
    """Describe all patches with `adapter`, train the fusion on them and measure it on the held-out patients."""
    captions, model, measured = (adapter.with_name(f"{adapter.name}-{name}") for name in ("captions", "model", "test"))
    settings = make_config(CaptionConfig, name="caption", config="tiny", manifest=manifest, out=captions)
    caption(replace(settings, adapter=adapter, seen_patients="refuse" if adapter.name == "crossfitted" else "allow"))
    fusion = make_config(TrainConfig, name="train", config="tiny", manifest=manifest, captions=captions, out=model)
    train(replace(fusion, seed=seed))
    evaluate(EvaluateConfig(model=model, manifest=manifest, captions=captions, out=measured))
    metrics: dict[str, Any] = json.loads((measured / "metrics.json").read_text(encoding="utf-8"))
    found = {
        f"finding_f1_{split}": score_captions(manifest, captions, split=split, taxonomy=load_taxonomy()).macro_f1
        for split in ("train", "test")
    }
    found |= {f"{arm}_{name}": metrics[arm][name] for arm in ARMS for name in MEASURES}
    frame = read_manifest(manifest)
    counts = {
        f"patients_{split}": float(frame.loc[frame["split"] == split, "patient_id"].nunique())
        for split in ("train", "test")
    }
    return {name: round(value, 4) for name, value in (found | counts).items()}


if __name__ == "__main__":
    main()
