"""Train the fusion under the curriculum, on one process or many."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.atomic import write_json
from data.command import run_command
from data.devices import choose_training_device
from data.errors import InputError
from data.heap import keep_large_blocks
from data.precision_state import forget_precision
from data.taxonomy import Taxonomy, load_taxonomy
from fusion.blocks import build_block
from fusion.calibration import fit_temperature
from fusion.config import TrainConfig
from fusion.feed import Feed
from fusion.fit import fit
from fusion.frozen import encode_frozen
from fusion.held_out import check_training, write_seen
from fusion.images import PatchImages
from fusion.lora import add_lora, merge_lora
from fusion.model import FusionModel
from fusion.patches import Patches, read_patches
from fusion.precision import set_precision
from fusion.record import TowerRecord
from fusion.resolution import warn_of_resolution
from fusion.run_folder import RUN, Checkpoints, claim, run_key, start
from fusion.saved_model import save_model
from fusion.sentences import sentence_bounds
from fusion.towers import check_tower, find_tower, is_trusted, load_image_tower, load_text_tower
from fusion.trained_on import write_trained_on
from fusion.training import Training
from fusion.validation import validate

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Train image tower, text tower and fusion block; returns `config.out`.

    Runs under `accelerate launch` on any number of processes. A run that was cut off goes on from its last checkpoint
    to the same weights; a finished one is left as it is.

    Raises:
        InputError: a tower without weights, a manifest or captions that cannot be used or whose splits are not apart,
            or a folder of another run.
    """
    run = setup(config)
    if run is not None:
        main(run)
    return config.out


def setup(config: TrainConfig) -> Training | None:
    """Check everything that can be wrong, cheapest first, then read and build; None where the run is finished."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, set_seed

    taxonomy = load_taxonomy(config.taxonomy)
    for record in _records(config):
        check_tower(record, pretrained=config.pretrained, remote_code=is_trusted(record, config.trust_remote_code))
    device = choose_training_device(config.device)
    patches = read_patches(
        manifest=config.manifest,
        captions=config.captions,
        text_source=config.text_source,
        taxonomy=taxonomy,
        splits=("train", "val"),
    )
    key = run_key(config, taxonomy_key=taxonomy.key)
    finished = claim(config, key=key)
    forget_precision()
    if device.type == "cpu":
        keep_large_blocks()
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise InputError(
            f"accelerate: {accelerator.distributed_type.value} is for models that do not fit on one device, and the "
            "fusion does; launch with configs/accelerate/ddp.yaml"
        )
    if config.batch_size < 2 * accelerator.num_processes:
        raise InputError(
            f"batch_size: {config.batch_size} is too small for {accelerator.num_processes} processes; "
            f"use {2 * accelerator.num_processes} or more"
        )
    if finished:
        if accelerator.is_main_process:
            tqdm.write(f"{config.out}: already trained with these settings and data; nothing to do")
        return None
    rows = check_training(config)
    # Other processes must have looked at the folder before it is written to.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        start(config, key=key, taxonomy_source=taxonomy.source)
        write_seen(config, rows)
    set_seed(config.seed)
    model = build_model(config, taxonomy=taxonomy, patches=patches).to(accelerator.device)
    for tower in (model.image_tower, model.text_tower):
        set_precision(tower, config.precision, device=accelerator.device)
    warn_of_resolution(model.image_tower, extents=patches.extents)
    images = PatchImages(
        patches.images,
        framing=model.image_tower.framing,
        memory_gb=config.image_memory_gb,
        workers=config.workers,
        progress=accelerator.is_main_process,
    )
    texts = [text or "" for text in patches.texts] + [""]
    tokenizer = model.text_tower.tokenizer
    ids = tokenizer.encode(texts)
    sentences = sentence_bounds(tokenizer, texts, ids) if "text" in config.augment else None
    if sentences is not None and all(len(bounds) <= 2 for bounds in sentences):
        logger.warning("augment: text changes nothing, since no text has more than one sentence")
    return Training(
        config=config,
        accelerator=accelerator,
        taxonomy=taxonomy,
        key=key,
        patches=patches,
        model=model,
        # One kernel for the whole step: several times as fast as the default on a CPU.
        optimizer=torch.optim.AdamW(
            model.parameter_groups(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        ),
        feed=Feed(patches, images, ids, model.text_tower, accelerator.device, sentences),
    )


def _records(config: TrainConfig) -> tuple[TowerRecord, TowerRecord]:
    """What is known of the image tower and of the text tower."""
    trusted = config.trust_remote_code
    return (
        find_tower(config.image_tower, modality="image", trusted=trusted),
        find_tower(config.text_tower, modality="text", trusted=trusted),
    )


def build_model(config: TrainConfig, *, taxonomy: Taxonomy, patches: Patches) -> FusionModel:
    """Build towers and block; a tokenizer that is trained sees the texts of the training rows alone."""
    texts = [patches.texts[row] for row in patches.rows("train")]
    image, text = _records(config)
    image_tower = load_image_tower(
        image, pretrained=config.pretrained, remote_code=is_trusted(image, config.trust_remote_code)
    )
    text_tower = load_text_tower(
        text,
        texts=[one for one in texts if one is not None],
        pretrained=config.pretrained,
        remote_code=is_trusted(text, config.trust_remote_code),
    )
    block = build_block(
        config.block,
        image_dim=image_tower.dim,
        text_dim=text_tower.dim,
        classes=len(taxonomy.class_names),
        hidden=config.hidden,
        dropout=config.dropout,
    )
    model = FusionModel(image_tower=image_tower, text_tower=text_tower, block=block)
    if config.image_lora_rank:
        add_lora(image_tower, rank=config.image_lora_rank)
    if config.text_lora_rank:
        add_lora(text_tower, rank=config.text_lora_rank)
    return model


def main(run: Training) -> None:
    """Fit, then write the model of the last stage's best epoch by validation, with its calibration."""
    config, accelerator = run.config, run.accelerator
    progress = fit(run)
    assert progress.best is not None
    run.model.load_unfrozen(progress.best)
    for tower in (run.model.image_tower, run.model.text_tower):
        merge_lora(tower)
    encode_frozen(run, next(stage for stage in reversed(config.stages) if stage.epochs))
    output = validate(run)
    if accelerator.is_main_process:
        save_model(run.model, config.out / "model", class_names=run.taxonomy.class_names)
        write_trained_on(config.out, run.patches)
        rows = run.patches.rows("val")
        labels = run.patches.labels[rows]
        with_text = run.feed.own_text[rows] != len(run.patches)
        arms = {"fused": output.fused, "image": output.image, "text": output.text}
        temperatures = {}
        for arm, logits in arms.items():
            counted = with_text if arm == "text" else np.ones_like(with_text)
            temperatures[arm] = fit_temperature(logits.cpu().numpy()[counted], labels[counted])
        write_json(
            config.out / "calibration.json", {"method": "temperature", "split": "val", "temperatures": temperatures}
        )
        best = progress.history[progress.best_epoch]
        summary = {
            "key": run.key,
            "finished": True,
            "epochs": progress.epochs,
            "best_epoch": progress.best_epoch + 1,
            "best_stage": best["stage"],
            "val_balanced_accuracy": {
                "fused": best["val_balanced_accuracy"],
                "image": best["val_image_balanced_accuracy"],
                "text": best["val_text_balanced_accuracy"],
            },
            "patches": {split: len(run.patches.rows(split)) for split in ("train", "val")},
            "missing_text": run.patches.missing_text,
        }
        write_json(config.out / RUN, summary)
        Checkpoints(run.config, key=run.key).remove()
        tqdm.write(_table(summary))
    accelerator.wait_for_everyone()


def _table(summary: dict[str, Any]) -> str:
    scores = summary["val_balanced_accuracy"]
    lines = [
        f"trained {summary['epochs']} epochs on {summary['patches']['train']} patches; "
        f"best is epoch {summary['best_epoch']} (stage {summary['best_stage']})",
        f"{'validation':<12}{'balanced accuracy':>18}",
    ]
    lines += [f"{arm:<12}{'—' if value is None else f'{value:.3f}':>18}" for arm, value in scores.items()]
    if summary["missing_text"]:
        lines.append(f"{summary['missing_text']} patches had no text")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run_command(train, TrainConfig, name="train"))
