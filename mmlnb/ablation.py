"""The ablation: every arm trained and evaluated with every seed, and what comes of it in one table."""

import json
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from data.atomic import digest, write_text
from data.claim import claim
from data.command import config_yaml, make_config
from data.taxonomy import load_taxonomy
from fusion.config import TrainConfig
from fusion.patches import read_patches
from fusion.run_folder import SETTINGS_WITHOUT_EFFECT
from mmlnb.ablation_arms import Arms, choose_arms
from mmlnb.ablation_report import Ablation, write_ablation
from mmlnb.ablation_results import measure_arms
from mmlnb.ablation_runs import Run, make_run
from mmlnb.config import AblateConfig


def ablate(config: AblateConfig) -> Path:
    """Run what is not done yet and write ablation.csv, .json and .png; returns `config.out`.

    Every variant and seed has a folder of its own, trained as `mmlnb train` does and evaluated on the test split as
    `mmlnb evaluate` does, so that an ablation that was cut off loses no more than a training that was.

    Raises:
        InputError: captions or a manifest that cannot be used, or a folder of another ablation.
    """
    arms = choose_arms(config)
    ground = _ground(config)
    _check_texts(ground, arms)
    _claim(config, ground)
    runs = _plan(config, ground, arms)
    for run in runs:
        # Every folder that holds something else is found before the first training starts.
        run.is_trained()
    write_text(config.out / "config.yaml", config_yaml(config))
    for arm, reason in arms.left_out.items():
        tqdm.write(f"{arm} is left out, since {reason}")
    for number, run in enumerate(runs, 1):
        tqdm.write(f"[{number}/{len(runs)}] {run.variant.name}, seed {run.seed}")
        if not run.finish():
            seconds = run.cost.seconds
            tqdm.write("done before" + ("" if seconds is None else f", in {seconds:.0f} s"))
    ablation = Ablation(
        arms=measure_arms(arms.variants, runs, seed=config.seed),
        left_out=arms.left_out,
        text=arms.text,
        seeds=config.seeds,
    )
    tqdm.write(write_ablation(ablation, config.out))
    tqdm.write(f"Table: {config.out / 'ablation.csv'}, figure: {config.out / 'ablation.png'}")
    return config.out


def _ground(config: AblateConfig) -> TrainConfig:
    """The settings that all arms start from."""
    given = {} if config.device is None else {"device": config.device}
    return make_config(
        TrainConfig, name="train", config=config.train_config, manifest=config.manifest, out=config.out, **given
    )


def _check_texts(ground: TrainConfig, arms: Arms) -> None:
    """Read the rows with every text that is needed: what is wrong with one must not show up after hours of training."""
    taxonomy = load_taxonomy(ground.taxonomy)
    for text in dict.fromkeys(variant.text for variant in arms.variants.values()):
        read_patches(
            manifest=ground.manifest,
            captions=arms.captions.get(text),
            text_source="captions" if text in arms.captions else "none",
            taxonomy=taxonomy,
            splits=("train", "val", "test"),
        )


def _claim(config: AblateConfig, ground: TrainConfig) -> None:
    """Mark the folder with the hash of what all its runs share; arms, texts and seeds may be added."""
    without = (*SETTINGS_WITHOUT_EFFECT, "manifest", "captions", "text_source", "seed", "device")
    settings = {name: value for name, value in asdict(ground).items() if name not in without}
    claim(config.out, key=digest("ablation 1", json.dumps(settings, sort_keys=True), ground.manifest.read_bytes()))


def _plan(config: AblateConfig, ground: TrainConfig, arms: Arms) -> list[Run]:
    """The runs in their order: all arms with the first seed, then with the next: seeds are whole early."""
    return [
        make_run(
            variant,
            ground,
            seed=seed,
            captions=arms.captions.get(variant.text),
            out=config.out,
            interval_seed=config.seed,
        )
        for seed in config.seeds
        for variant in dict.fromkeys(arms.variants.values())
    ]
