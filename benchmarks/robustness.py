"""How every fusion block bears wrong text, over several seeds, on the patches of a demo run; one JSON line last."""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from data.command import make_config
from fusion.config import BlockName, EvaluateConfig, TrainConfig
from fusion.evaluate import evaluate
from fusion.train import train

FULL_RATE = 1.0


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of `mmlnb demo`, whose patches and captions are used")
    parser.add_argument("--blocks", nargs="+", default=get_args(BlockName), choices=get_args(BlockName))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows = []
    for seed in arguments.seeds:
        for block in arguments.blocks:
            with tempfile.TemporaryDirectory() as folder:
                rows.append({"block": block, "seed": seed, **measure(arguments.demo, Path(folder), block, seed)})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).drop(columns="seed").groupby("block", sort=False).agg(["mean", "std"]).round(4)
    print(table.T.to_string())
    means = table.xs("mean", axis=1, level=1)
    print(
        json.dumps(
            {
                "name": "robustness",
                "seeds": arguments.seeds,
                "seconds": round(time.perf_counter() - started),
                "means": means.astype(object).where(means.notna(), None).to_dict(orient="index"),
            }
        )
    )


def measure(demo: Path, folder: Path, block: BlockName, seed: int) -> dict[str, Any]:
    """Train one block as the `tiny` preset does, and evaluate it with wrong text and worse images."""
    data: dict[str, Any] = {"manifest": demo / "patches.parquet", "captions": demo / "captions"}
    settings = make_config(TrainConfig, name="train", config="tiny", out=folder / "run", **data)
    if block == "prmf-paper":
        settings = settings.as_published()
    train(replace(settings, block=block, seed=seed))
    out = evaluate(EvaluateConfig(model=folder / "run", out=folder / "evaluated", robustness=True, **data))
    metrics = json.loads((out / "metrics.json").read_text())
    points = pd.read_csv(out / "robustness.csv")
    full = points[(points["rate"] == FULL_RATE) & (points["modality"] == "text")].set_index("corruption")
    swapped = points[points["corruption"] == "cross-class swap"]
    return {
        **{arm: metrics[arm]["balanced_accuracy"] for arm in ("fused", "image_only", "text_only")},
        **{name: float(full.loc[name, "fused_balanced_accuracy"]) for name in full.index},
        "gate_auroc": float(np.nanmean(swapped["gate_auroc"])) if swapped["gate_auroc"].notna().any() else None,
        "trusting": float(swapped[swapped["rate"] == FULL_RATE]["trusting"].iloc[0]),
        "calibration_error": float(points[points["rate"] == 0]["fused_calibration_error"].iloc[0]),
    }


if __name__ == "__main__":
    main()
