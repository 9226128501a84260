"""How fast the fusion trains, stage by stage, beside a loop like the paper's release; one JSON line last."""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from fusion_reference import Reference

import fusion.fit
from data.config import PrepareConfig
from data.manifest import read_manifest, write_manifest
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy
from fusion.config import EvaluateConfig, TrainConfig
from fusion.curriculum import Stage
from fusion.evaluate import evaluate
from fusion.patches import Patches, read_patches
from fusion.train import build_model, train
from mmlnb.memory import PeakMemory

PAPER_EPOCHS = 50


def main() -> None:
    """Measure, print what each stage took and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=96, help="to train on; a third as many to validate on")
    parser.add_argument("--epochs", type=int, default=2, help="of stages 1 and 2; stage 3 has the paper's 50")
    parser.add_argument("--patients", type=int, default=30, help="of 20 patches each, for the comparison of AUROC")
    parser.add_argument("--seeds", type=int, default=2, help="of the comparison of AUROC")
    parser.add_argument("--skip", choices=("speed", "auroc"), help="leave out one half")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"name": "fusion"}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.skip != "speed":
            figures |= measure_speed(Path(folder), patches=arguments.patches, epochs=arguments.epochs)
        if arguments.skip != "auroc":
            figures |= measure_auroc(Path(folder), patients=arguments.patients, seeds=arguments.seeds)
    figures["device"] = f"{torch.get_num_threads()} threads of {platform.machine()}"
    print(json.dumps(figures))


def stages(*epochs: int) -> tuple[Stage, ...]:
    """The paper's curriculum with as many epochs in each stage; alpha takes its five steps in whatever there is."""
    return (
        Stage(name="image", epochs=epochs[0], freeze=("text",), alpha_from=0.3),
        Stage(
            name="joint",
            epochs=epochs[1],
            alpha_from=0.3,
            alpha_to=1.0,
            alpha_step=0.14,
            alpha_every=-(-epochs[1] // 5),
        ),
        Stage(name="fusion", epochs=epochs[2], freeze=("image", "text"), alpha_from=1.0),
    )


def measure_speed(folder: Path, *, patches: int, epochs: int) -> dict[str, Any]:
    """The paper's towers with random weights, from the manifest to the model."""
    manifest = make_patches(folder / "speed", patients=24, patches=-(-patches // 12), seed=5)
    frame = read_manifest(manifest)
    counts = {"train": patches, "val": patches // 3}
    write_manifest(
        frame[frame.groupby("split").cumcount() < frame["split"].map(counts).fillna(0)].reset_index(drop=True), manifest
    )
    config = TrainConfig(
        manifest=manifest,
        out=folder / "speed" / "run",
        text_source="description",
        pretrained=False,
        block="prmf-paper",
        stages=stages(epochs, epochs, PAPER_EPOCHS),
    )
    # First, since `train` changes how the process allocates memory. Every epoch of the reference repeats the one
    # before, so that one of each stage is enough.
    reference = make_reference(config)
    plain = {stage.name: reference.fit_stage(stage, epochs=1) for stage in config.stages}
    del reference
    with PeakMemory() as memory:
        ours, total = timed_stages(config)
    print(f"ours, seconds per stage: {ours}", flush=True)
    # The encoding of stage 1, which belongs to all its epochs, counts in full for the few that are run here.
    per_epoch = {stage.name: ours[stage.name] / stage.epochs for stage in config.stages}
    ratios = [plain[stage.name] / per_epoch[stage.name] for stage in config.stages]
    for stage, ratio in zip(config.stages, ratios, strict=True):
        print(
            f"stage {stage.name}: {per_epoch[stage.name]:.3f} s per epoch over {stage.epochs} epochs, "
            f"reference {plain[stage.name]:.1f} s, {ratio:.1f} times"
        )
    print(f"from the manifest to the model: {total:.1f} s")
    return {
        **{f"stage{number}_ratio": round(ratio, 2) for number, ratio in enumerate(ratios, start=1)},
        "schedule_ratio": round(sum(plain.values()) / sum(per_epoch.values()), 2),
        "peak_rss_gb": round(memory.gigabytes, 3),
        "seconds_per_epoch": {name: round(seconds, 4) for name, seconds in per_epoch.items()},
        "reference_seconds_per_epoch": {name: round(seconds, 2) for name, seconds in plain.items()},
        "epochs": [stage.epochs for stage in config.stages],
        "patches": counts,
    }


def timed_stages(config: TrainConfig) -> tuple[dict[str, float], float]:
    """Train; returns the seconds of each stage, with encoding, validation and checkpoints, and of the whole."""
    seconds: dict[str, float] = {}
    fit_stage: Callable[..., None] = fusion.fit.fit_stage

    def timed(run: Any, stage: Stage, **arguments: Any) -> None:
        started = time.perf_counter()
        fit_stage(run, stage, **arguments)
        seconds[stage.name] = time.perf_counter() - started

    fusion.fit.fit_stage = timed
    started = time.perf_counter()
    try:
        train(config)
    finally:
        fusion.fit.fit_stage = fit_stage
    return seconds, time.perf_counter() - started


def measure_auroc(folder: Path, *, patients: int, seeds: int) -> dict[str, Any]:
    """AUROC on held-out patients of small towers in bf16, less that of the reference with the same settings."""
    found: dict[str, list[float]] = {"ours": [], "reference": []}
    for seed in range(1, seeds + 1):
        place = folder / f"auroc-{seed}"
        config = TrainConfig(
            manifest=make_patches(place, patients=patients, patches=20, seed=seed),
            out=place / "run",
            text_source="description",
            image_tower="tiny-image",
            text_tower="tiny-text",
            pretrained=False,
            block="prmf-paper",
            stages=stages(3, 5, 6),
            learning_rate=1e-3,
            # Small towers would stay in float32, and the comparison is of everything that large ones go through.
            precision="bf16",
            seed=seed,
        )
        model = train(config)
        evaluate(EvaluateConfig(model=model, manifest=config.manifest, out=place / "test", text_source="description"))
        metrics = json.loads((place / "test" / "metrics.json").read_text(encoding="utf-8"))
        found["ours"].append(metrics["fused"]["auroc"])
        reference = make_reference(config)
        for stage in config.stages:
            reference.fit_stage(stage, epochs=stage.epochs, keep_best=stage is config.stages[-1])
        auroc = reference.measure("test").auroc
        assert auroc is not None
        found["reference"].append(auroc)
        print(f"seed {seed}: AUROC {found['ours'][-1]:.4f}, reference {auroc:.4f}", flush=True)
    means = {name: statistics.fmean(values) for name, values in found.items()}
    return {
        "auroc_gap": round(means["ours"] - means["reference"], 4),
        "auroc": {name: [round(value, 4) for value in values] for name, values in found.items()},
    }


def make_patches(folder: Path, *, patients: int, patches: int, seed: int) -> Path:
    """Manifest of synthetic patients with as many patches each."""
    synth(SynthConfig(out=folder / "synth", patients=patients, patches_per_patient=patches, slides=0, seed=seed))
    manifest = folder / "patches.parquet"
    prepare(PrepareConfig(source=folder / "synth" / "labels.csv", out=manifest, seed=seed))
    return manifest


def make_reference(config: TrainConfig) -> Reference:
    """The reference with the weights that `config` starts from."""
    patches = all_patches(config)
    set_seed(config.seed)
    return Reference(
        model=build_model(config, taxonomy=load_taxonomy(config.taxonomy), patches=patches),
        patches=patches,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
    )


def all_patches(config: TrainConfig) -> Patches:
    """The patches of all splits of the manifest."""
    splits = tuple(sorted(set(read_manifest(config.manifest)["split"])))
    return read_patches(
        manifest=config.manifest,
        captions=config.captions,
        text_source=config.text_source,
        taxonomy=load_taxonomy(config.taxonomy),
        splits=splits,
    )


if __name__ == "__main__":
    main()
