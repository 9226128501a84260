"""Gather the outputs of the stages into a bundle."""

import json
import shutil
from pathlib import Path

import pandas as pd
import yaml

from data.atomic import atomic_folder, write_text
from data.errors import InputError
from data.json_object import read_json_object
from data.manifest import SPLITS, read_manifest
from fusion.config import EvaluateConfig
from fusion.evaluate import evaluation_key
from mmlnb.bundle_agreement import bundle_taxonomy
from mmlnb.bundle_config import BundleMakeConfig
from mmlnb.bundles import DECODING, write_index
from mmlnb.model_card import model_card
from mmlnb.portable_settings import STAGES, write_portable
from mmlnb.stain_reference import HELD_OUT, write_held_out


def bundle_make(config: BundleMakeConfig) -> Path:
    """Gather the outputs of the stages into a bundle and return its folder.

    Raises:
        InputError: a stage's output is missing, parts do not belong together, or patches differ in size or resolution.
    """
    if config.out.exists():
        raise InputError(f"{config.out}: exists already; choose another OUT or remove it")
    manifest = config.stage("manifest")
    finetune, train, evaluate = (config.stage(name) for name in ("finetune", "train", "evaluate"))
    sources = {
        "adapter": finetune / "adapter",
        "adapter/prompt.json": finetune / "prompt.json",
        "fusion/model": train / "model",
        "fusion/calibration.json": train / "calibration.json",
        "taxonomy.yaml": train / "taxonomy.yaml",
        "metrics.json": evaluate / "metrics.json",
    }
    settings = {stage: config.stage(stage) / "config.yaml" for stage in STAGES}
    for source in (manifest, *sources.values(), *settings.values()):
        if not source.exists():
            raise InputError(f"{source}: missing; run the stage that writes it before the bundle is made")
    frame = read_manifest(manifest)
    mpp, tile_px = _patch_geometry(frame, manifest)
    _check_evaluation(config)
    with atomic_folder(config.out) as folder:
        for name, source in sources.items():
            _copy(source, folder / name)
        for stage, source in settings.items():
            write_portable(source, folder / "config" / f"{stage}.yaml", stage=stage)
        captioning = yaml.safe_load(settings["caption"].read_text(encoding="utf-8"))
        metrics = read_json_object(folder / "metrics.json", remedy="evaluate again")
        write_held_out(folder / HELD_OUT, manifest, split=metrics["split"])
        card = model_card(
            bundle_taxonomy(folder),
            metrics,
            model=captioning["model"],
            mpp=mpp,
            tile_px=tile_px,
            notice=config.notice,
            licence=config.licence,
            training_data=config.training_data,
            counts=_counts(frame),
        )
        write_text(folder / "README.md", card)
        write_index(
            folder,
            model=captioning["model"],
            dtype=captioning["dtype"],
            # Captions of before a setting existed were written with its default.
            decoding={name: captioning[name] for name in DECODING if name in captioning},
            target_mpp=mpp,
            tile_px=tile_px,
            notice=config.notice,
            licence=config.licence,
        )
    print(f"Bundle: {config.out}")
    return config.out


def _check_evaluation(config: BundleMakeConfig) -> None:
    """Refuse figures that were measured on another model, other patches or other captions."""
    out = config.stage("evaluate")
    settings = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    evaluation = EvaluateConfig(
        model=config.stage("train"),
        manifest=config.stage("manifest"),
        out=out,
        captions=config.stage("caption") if settings["captions"] else None,
        text_source=settings["text_source"],
        split=settings["split"],
    )
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    if metrics["key"] != evaluation_key(evaluation):
        raise InputError(f"{out}: measured another model, manifest or captions than those given; evaluate these first")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _counts(frame: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Split to the number of its patches and patients; nobody is named."""
    rows = {split: frame[frame["split"] == split] for split in SPLITS}
    return {split: (len(some), some["patient_id"].nunique()) for split, some in rows.items() if len(some)}


def _patch_geometry(frame: pd.DataFrame, manifest: Path) -> tuple[float, int]:
    """Resolution (µm/px) and side (px) that all patches of the manifest share."""
    mpps, sizes = frame["mpp"].dropna().unique(), frame["size_px"].unique()
    if len(mpps) != 1 or len(sizes) != 1:
        raise InputError(
            f"{manifest}: slides need one patch size and one mpp, found sizes {sorted(map(int, sizes))} and mpp "
            f"{sorted(map(float, mpps)) or 'none'}; give all patches the same"
        )
    return float(mpps[0]), int(sizes[0])
