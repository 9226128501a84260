"""The ablation on a synthetic cohort that is hard on the image, from its drawing to its table; one JSON line last."""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

from data.atomic import atomic_folder
from data.command import make_config
from data.config import PrepareConfig
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from mmlnb.ablation import ablate
from mmlnb.caption_scores import score_captions
from mmlnb.config import AblateConfig
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.train import finetune
from vlm_finetune.unseen import FOLDS_FOLDER

TEXTS = ("base", "finetuned", "crossfitted")


def main() -> None:
    """Do what is not done yet below the folder that is given, and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for everything; a run that was cut off goes on")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--patches", type=int, default=24, help="of each patient")
    parser.add_argument("--sites", type=int, default=4, help="laboratories; the last one is tested on alone")
    parser.add_argument("--stain-shift", type=float, default=1.0)
    parser.add_argument("--rare-findings", type=float, default=0.3)
    parser.add_argument("--label-noise", type=float, default=0.2)
    parser.add_argument("--epochs", type=float, default=12, help="of fine-tuning")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the fusion's training")
    parser.add_argument("--cohort-seed", type=int, default=2024, help="of tissue, splits and fine-tuning")
    arguments = parser.parse_args()
    started = time.perf_counter()
    out: Path = arguments.out
    manifest = draw(out, arguments)
    describe(out, manifest, arguments)
    taxonomy = load_taxonomy()
    f1 = {
        text: {
            split: round(score_captions(manifest, out / f"captions-{text}", split=split, taxonomy=taxonomy).macro_f1, 4)
            for split in ("train", "test")
        }
        for text in TEXTS
    }
    print(f"Captions, finding macro-F1: {json.dumps(f1)}", flush=True)
    folder = ablate(
        AblateConfig(
            manifest=manifest,
            out=out / "ablation",
            base_captions=out / "captions-base",
            captions=out / "captions-finetuned",
            crossfitted_captions=out / "captions-crossfitted",
            seeds=tuple(arguments.seeds),
        )
    )
    arms = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))["arms"]
    means = {arm: round(one["patches"]["measures"]["balanced_accuracy"]["mean"], 4) for arm, one in arms.items()}
    line = {"name": "ablation", **vars(arguments), "out": str(out), "finding_f1": f1, "balanced_accuracy": means}
    print(json.dumps({**line, "seconds": round(time.perf_counter() - started)}))


def draw(out: Path, arguments: argparse.Namespace) -> Path:
    """Draw the cohort and write its manifest; one slide per patient, so that slides are voted on, too."""
    synth(
        SynthConfig(
            out=out / "synth",
            patients=arguments.patients,
            patches_per_patient=arguments.patches,
            slides=0,
            seed=arguments.cohort_seed,
            sites=arguments.sites,
            held_out_sites=1 if arguments.sites > 1 else 0,
            stain_shift=arguments.stain_shift,
            rare_findings=arguments.rare_findings,
            label_noise=arguments.label_noise,
            patch_slides=1,
        )
    )
    source, manifest = out / "synth" / "labels.csv", out / "patches.parquet"
    return prepare(PrepareConfig(source=source, out=manifest, seed=arguments.cohort_seed))


def describe(out: Path, manifest: Path, arguments: argparse.Namespace) -> None:
    """Fine-tune with folds, and describe all patches by the base, the adapter and the adapters of the folds."""
    fitted = out / "finetune"
    settings = make_config(FinetuneConfig, name="finetune", config="tiny", manifest=manifest, out=fitted)
    finetune(replace(settings, epochs=arguments.epochs, crossfit=arguments.folds, seed=arguments.cohort_seed))
    seen = out / "finetune-without-folds"
    if not seen.exists():
        # Without the adapters of the folds every patient is described by the one that was trained on all.
        with atomic_folder(seen) as temporary:
            shutil.copytree(fitted, temporary, ignore=shutil.ignore_patterns(FOLDS_FOLDER), dirs_exist_ok=True)
    for text, adapter in zip(TEXTS, (None, seen, fitted), strict=True):
        ask = make_config(CaptionConfig, name="caption", config="tiny", manifest=manifest, out=out / f"captions-{text}")
        caption(replace(ask, adapter=adapter, seen_patients="refuse" if text == "crossfitted" else "allow"))


if __name__ == "__main__":
    main()
