"""Whether off-domain text harms the fusion on real tissue, one patient held out at a time; one JSON line last."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from data.command import make_config
from data.config import PrepareConfig
from data.errors import InputError
from data.prepare import prepare
from data.taxonomy import load_taxonomy
from fusion.captions import read_caption_texts
from fusion.config import BlockName, EvaluateConfig, TrainConfig
from fusion.evaluate import evaluate
from fusion.metrics import balanced_accuracy
from fusion.train import train
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig

TAXONOMY = Path(__file__).with_suffix(".yaml")
# CLASS___CASE-BLOCK-X-Y_N.jpg, where CASE is Case-3 or P9; a second P of Case-48-P5 is part of the block.
NAME = r"(?P<label>.+)___(?P<patient_id>Case-\d+|P\d+)-.+"
ARMS = ("fused", "image_only", "text_only")
# The preset is made for epochs of some 900 patches, and here they are of 20 to 40.
EPOCHS_TIMES = 6
BATCH_SIZE = 16


@dataclass(frozen=True)
class Fold:
    """One held-out patient."""

    patient: str
    validation: str
    """Patient of the split val."""
    manifest: Path


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of `mmlnb demo`, whose fine-tuned model writes the text")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/osteosarcoma"), help="folder of the patches")
    parser.add_argument("--blocks", nargs="+", default=["prmf"], choices=get_args(BlockName))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        found = measure(arguments)
    except InputError as error:
        parser.error(str(error))
    table = pd.DataFrame([{"block": block} | row for block, one in found["blocks"].items() for row in one["by_seed"]])
    print(table.to_string(index=False))
    print(json.dumps({"name": "osteosarcoma", "seconds": round(time.perf_counter() - started), **found}))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Describe the patches once, then train and measure every block with every seed and every patient held out."""
    patches = read_names(arguments.data)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folds = make_folds(patches, arguments.data, folder)
        captions = describe(folds[0].manifest, arguments.demo / "finetune", folder / "captions")
        texts = read_caption_texts(captions).texts
        show_texts(patches, texts)
        for block in arguments.blocks:
            by_seed = []
            for seed in arguments.seeds:
                out = folder / f"{block}-{seed}"
                calls = pd.concat([classify(fold, captions, out / fold.patient, block, seed) for fold in folds])
                by_seed.append(calls.assign(seed=seed, has_text=calls["patch_id"].isin(texts)))
            found[block] = summarise(by_seed)
    return {
        "patches": len(patches),
        "texts": len(texts),
        "different_texts": len(set(texts.values())),
        "validated_on": {fold.patient: fold.validation for fold in folds},
        "seeds": arguments.seeds,
        "blocks": found,
    }


def read_names(data: Path) -> pd.DataFrame:
    """The columns file_name, label and patient_id of the images in `data`, from their names."""
    frame = pd.DataFrame({"file_name": sorted(path.name for path in data.glob("*.jpg"))}, dtype=str)
    if frame.empty:
        raise InputError(f"{data}: holds no .jpg; name the folder of the osteosarcoma patches with --data")
    frame = frame.join(frame["file_name"].str.extract(f"^{NAME}$"))
    wrong = frame["file_name"][frame["label"].isna()]
    if len(wrong):
        raise InputError(f"{data / wrong.iloc[0]}: the name is not CLASS___CASE-BLOCK-X-Y_N.jpg; rename or remove it")
    return frame


def make_folds(patches: pd.DataFrame, data: Path, folder: Path) -> list[Fold]:
    """A manifest for each patient, who is its split test."""
    folds = []
    for patient in sorted(patches["patient_id"].unique()):
        validation = validation_patient(patches[patches["patient_id"] != patient])
        split = patches["patient_id"].map({patient: "test", validation: "val"}).fillna("train")
        source, manifest = folder / f"{patient}.csv", folder / f"{patient}.parquet"
        patches.assign(split=split).to_csv(source, index=False)
        prepare(PrepareConfig(source=source, out=manifest, images=data, taxonomy=str(TAXONOMY)))
        folds.append(Fold(patient, validation, manifest))
    return folds


def validation_patient(rest: pd.DataFrame) -> str:
    """The patient of `rest` whom training can do without: no class is lost, and as many as possible are validated."""

    def order(patient: str) -> tuple[int, int, str]:
        own = rest["patient_id"] == patient
        lost = rest["label"].nunique() - rest["label"][~own].nunique()
        return lost, -rest["label"][own].nunique(), patient

    return min(rest["patient_id"].unique(), key=order)


def describe(manifest: Path, adapter: Path, out: Path) -> Path:
    """Describe all patches, as `mmlnb caption` does; refused where the adapter was trained on one of the patients."""
    settings = make_config(
        CaptionConfig,
        name="caption",
        config="tiny",
        manifest=manifest,
        out=out,
        adapter=adapter,
        seen_patients="refuse",
    )
    return caption(settings)


def show_texts(patches: pd.DataFrame, texts: dict[str, str]) -> None:
    """Print the text of the first patch of each class."""
    for label, names in patches.groupby("label")["file_name"]:
        print(f"{label}, {names.iloc[0]}: {texts.get(names.iloc[0], 'no text')}")


def classify(fold: Fold, captions: Path, out: Path, block: BlockName, seed: int) -> pd.DataFrame:
    """Train without the patient of `fold`; the calls of every arm and the gate on the patient's patches."""
    class_names = load_taxonomy(TAXONOMY).class_names
    data: dict[str, Any] = {"manifest": fold.manifest, "captions": captions}
    settings = make_config(TrainConfig, name="train", config="tiny", out=out / "run", taxonomy=str(TAXONOMY), **data)
    stages = tuple(
        replace(stage, epochs=EPOCHS_TIMES * stage.epochs, alpha_every=EPOCHS_TIMES * stage.alpha_every)
        for stage in settings.stages
    )
    if block == "prmf-paper":
        settings = settings.as_published()
    train(replace(settings, block=block, stages=stages, batch_size=BATCH_SIZE, seed=seed))
    measured = evaluate(EvaluateConfig(model=out / "run", out=out / "evaluated", **data))
    predictions = pd.read_parquet(measured / "predictions.parquet")
    columns = {arm: [f"{arm}_{name}" for name in class_names] for arm in ARMS}
    return predictions[["patch_id", "patient_id", "gate"]].assign(
        label=predictions["label"].map(class_names.index),
        **{arm: predictions[columns[arm]].to_numpy().argmax(axis=1) for arm in ARMS},
    )


def summarise(by_seed: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Figures of one block from the held-out calls of each seed: their means, and those of each seed."""
    rows = [figures(calls) for calls in by_seed]
    means = pd.DataFrame(rows).drop(columns=["seed", "interval"]).astype(float).mean()
    return {
        **{name: None if np.isnan(value) else round(value, 4) for name, value in means.items()},
        "interval": interval(by_seed),
        "by_seed": rows,
    }


def figures(calls: pd.DataFrame) -> dict[str, Any]:
    """What one seed gave on the patches of all held-out patients together."""
    read = calls[calls["has_text"]]
    right = read["text_only"] == read["label"]
    arms = {arm: arm_accuracy(read if arm == "text_only" else calls, arm) for arm in ARMS}
    return {
        "seed": int(calls["seed"].iloc[0]),
        **{arm: round(value, 4) for arm, value in arms.items()},
        "difference": round(difference(calls), 4),
        "interval": interval([calls]),
        # Patches that are called otherwise with their text than from the image alone.
        "changed": int((calls["fused"] != calls["image_only"]).sum()),
        "gate": round(float(read["gate"].mean()), 4),
        # How well the gate tells patches whose text is called right from the others.
        "gate_auroc": round(float(roc_auc_score(right, read["gate"])), 4) if right.nunique() == 2 else None,
    }


def arm_accuracy(calls: pd.DataFrame, arm: str) -> float:
    """Balanced accuracy of one arm."""
    return balanced_accuracy(calls["label"].to_numpy(), calls[arm].to_numpy())


def difference(calls: pd.DataFrame) -> float:
    """Balanced accuracy fused minus that of the image alone."""
    return arm_accuracy(calls, "fused") - arm_accuracy(calls, "image_only")


def interval(by_seed: Sequence[pd.DataFrame]) -> list[float]:
    """95 % percentile interval of the mean difference, over patients drawn with replacement, alike for all seeds."""
    patients = sorted(by_seed[0]["patient_id"].unique())
    parts = [{patient: calls[calls["patient_id"] == patient] for patient in patients} for calls in by_seed]

    @cache  # Four patients can be drawn in 35 ways only.
    def mean_difference(drawn: tuple[int, ...]) -> float:
        return float(np.mean([difference(pd.concat([part[patients[one]] for one in drawn])) for part in parts]))

    found = bootstrap(
        (np.arange(len(patients)),),
        lambda drawn: mean_difference(tuple(sorted(drawn.tolist()))),
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [round(float(found.low), 4), round(float(found.high), 4)]


if __name__ == "__main__":
    main()
