"""Train the fusion under the curriculum, on one process or many."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.atomic import write_json
from data.command import run_command
from data.devices import choose_training_device
from data.errors import InputError
from data.precision_state import forget_precision
from data.taxonomy import Taxonomy, load_taxonomy
from fusion.blocks import build_block
from fusion.calibration import fit_temperature
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.encode import encode_images, encode_texts
from fusion.feed import Feed
from fusion.images import PatchImages
from fusion.lora import add_lora, merge_lora
from fusion.model import FusionModel, fingerprint
from fusion.objective import class_weights, curriculum_loss
from fusion.patches import Patches, read_patches
from fusion.resolution import warn_of_resolution
from fusion.run_folder import (
    RUN,
    Checkpoints,
    Progress,
    claim,
    load_progress,
    run_key,
    start,
    write_history,
)
from fusion.saved_model import save_model
from fusion.towers import check_tower, find_tower, load_image_tower, load_text_tower
from fusion.trained_on import write_trained_on
from fusion.training import Training
from fusion.validation import score, validate


def train(config: TrainConfig) -> Path:
    """Train image tower, text tower and fusion block; returns `config.out`.

    Runs under `accelerate launch` on any number of processes. A run that was cut off goes on from its last checkpoint
    to the same weights; a finished one is left as it is.

    Raises:
        InputError: a tower without weights, a manifest or captions that cannot be used, or a folder of another run.
    """
    run = setup(config)
    if run is not None:
        main(run)
    return config.out


def setup(config: TrainConfig) -> Training | None:
    """Check everything that can be wrong, cheapest first, then read and build; None where the run is finished."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    taxonomy = load_taxonomy(config.taxonomy)
    records = [find_tower(config.image_tower, modality="image"), find_tower(config.text_tower, modality="text")]
    for record in records:
        check_tower(record, pretrained=config.pretrained)
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
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    if config.batch_size < 2 * accelerator.num_processes:
        raise InputError(
            f"batch_size: {config.batch_size} is too small for {accelerator.num_processes} processes; "
            f"use {2 * accelerator.num_processes} or more"
        )
    if finished:
        if accelerator.is_main_process:
            tqdm.write(f"{config.out}: already trained with these settings and data; nothing to do")
        return None
    # Other processes must have looked at the folder before it is written to.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        start(config, key=key, taxonomy_source=taxonomy.source)
    set_seed(config.seed)
    model = build_model(config, taxonomy=taxonomy, patches=patches).to(accelerator.device)
    warn_of_resolution(model.image_tower, extents=patches.extents)
    images = PatchImages(
        patches.images,
        framing=model.image_tower.framing,
        memory_gb=config.image_memory_gb,
        workers=config.workers,
        progress=accelerator.is_main_process,
    )
    ids = model.text_tower.tokenizer.encode([text or "" for text in patches.texts] + [""])
    return Training(
        config=config,
        accelerator=accelerator,
        taxonomy=taxonomy,
        key=key,
        patches=patches,
        model=model,
        optimizer=torch.optim.AdamW(
            model.parameter_groups(), lr=config.learning_rate, weight_decay=config.weight_decay
        ),
        feed=Feed(patches, images, ids, model.text_tower, accelerator.device),
        bf16=_use_bf16(config, accelerator.device),
    )


def build_model(config: TrainConfig, *, taxonomy: Taxonomy, patches: Patches) -> FusionModel:
    """Build towers and block; a tokenizer that is trained sees the texts of the training rows alone."""
    texts = [patches.texts[row] for row in patches.rows("train")]
    image_tower = load_image_tower(find_tower(config.image_tower, modality="image"), pretrained=config.pretrained)
    text_tower = load_text_tower(
        find_tower(config.text_tower, modality="text"),
        texts=[text for text in texts if text is not None],
        pretrained=config.pretrained,
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
    run.model.load_state_dict(progress.best)
    for tower in (run.model.image_tower, run.model.text_tower):
        merge_lora(tower)
    run.feed.image_features = run.feed.text_features = None
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


def fit(run: Training) -> Progress:
    """Run the stages of the curriculum, from the last checkpoint on."""
    progress = Progress()
    if state := load_progress(run.config.out, key=run.key):
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
    steps = len(run.plan(0).batches)
    total = sum(stage.epochs for stage in run.config.stages)
    bar = tqdm(
        total=total * steps,
        initial=progress.epochs * steps,
        desc="training",
        unit="step",
        disable=not run.progress_bars,
    )
    checkpoints = Checkpoints(run.config, key=run.key)
    before = 0
    for stage in run.config.stages:
        if progress.epochs < before + stage.epochs:
            fit_stage(run, stage, before=before, progress=progress, checkpoints=checkpoints, bar=bar)
        before += stage.epochs
    bar.close()
    return progress


def fit_stage(
    run: Training, stage: Stage, *, before: int, progress: Progress, checkpoints: Checkpoints, bar: "tqdm[Any]"
) -> None:
    """Train one stage, of which `progress` may have some epochs behind it; `before` counts those of earlier stages."""
    accelerator, model, feed = run.accelerator, run.model, run.feed
    total = sum(stage.epochs for stage in run.config.stages)
    model.freeze(stage)
    # Wrapped anew in every stage: a wrapper that has seen other parameters train lets the processes drift apart.
    wrapped = accelerator.prepare(model)
    model.eval()
    with run.arithmetic():
        feed.image_features = feed.text_features = None
        if "image" in stage.freeze:
            feed.image_features = encode_images(model, feed.images, accelerator=accelerator, progress=run.progress_bars)
        if "text" in stage.freeze:
            feed.text_features = encode_texts(model, feed.ids, accelerator=accelerator, progress=run.progress_bars)
    for epoch in range(progress.epochs - before, stage.epochs):
        alpha = stage.alpha(epoch)
        bar.set_description(f"stage {stage.name}, epoch {before + epoch + 1}, alpha {alpha:g}")
        losses = fit_epoch(run, wrapped, stage, epoch=epoch, before=before, bar=bar)
        weights = _agreed_fingerprint(run)
        scores, loss = score(run, validate(run))
        record = {"stage": stage.name, "epoch": before + epoch + 1, "alpha": alpha, **losses}
        record |= {"val_balanced_accuracy": scores["fused"], "val_loss": loss}
        record |= {f"val_{arm}_balanced_accuracy": scores[arm] for arm in ("image", "text")}
        progress.history.append(record | {"weights": weights})
        # Only the last stage's epochs count: before it the fused classifier is unfinished, and does well by luck alone.
        # Of two with the same balanced accuracy the surer one is kept; test rows have no say.
        if before + stage.epochs == total and (scores["fused"] or 0.0, -loss) > progress.best_score:
            progress.best_score, progress.best_epoch = (scores["fused"] or 0.0, -loss), before + epoch
            progress.best = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        progress.epochs = before + epoch + 1
        bar.set_postfix(loss=f"{losses['loss']:.3f}", val=f"{scores['fused'] or 0:.3f}")
        if accelerator.is_main_process:
            checkpoints.save(model, run.optimizer, progress, now=epoch == stage.epochs - 1)
            write_history(run.config.out, progress.history)
    accelerator.free_memory()


def fit_epoch(
    run: Training, wrapped: torch.nn.Module, stage: Stage, *, epoch: int, before: int, bar: "tqdm[Any]"
) -> dict[str, float]:
    """One pass over the training rows; returns the mean losses."""
    config, accelerator, patches = run.config, run.accelerator, run.patches
    plan = run.plan(before + epoch)
    rows = patches.rows("train")
    labels = torch.from_numpy(patches.labels[rows])
    balance = class_weights(labels, classes=len(run.taxonomy.class_names))
    row_weights = (balance[labels] if config.balance else torch.ones(len(rows))).to(accelerator.device)
    labels = labels.to(accelerator.device)
    # Dropout of an epoch depends on the epoch alone, so that a resumed run repeats it.
    entropy = np.random.SeedSequence([config.seed, before + epoch, accelerator.process_index])
    torch.manual_seed(int(entropy.generate_state(1)[0]))
    own = [batch[accelerator.process_index :: accelerator.num_processes] for batch in plan.batches]
    feed = run.feed.batches(
        [rows[positions] for positions in own],
        texts=[np.where(plan.texts.source[some] < 0, -1, rows[plan.texts.source[some]]) for some in own],
        cut=lambda step, place, ids: plan.texts.tokens(int(own[step][place]), ids),
        augment_with=[plan.augment.rows(torch.from_numpy(positions)) for positions in own] if config.augment else None,
    )
    sums = torch.zeros(4, device=accelerator.device)
    wrapped.train()
    for step, batch in enumerate(feed):
        _set_learning_rate(run, stage, done=(epoch + step / len(own)) / stage.epochs)
        positions = torch.from_numpy(own[step]).to(accelerator.device)
        with run.arithmetic():
            output = wrapped(**batch.inputs)
        losses = curriculum_loss(
            output,
            labels[positions],
            alpha=stage.alpha(epoch),
            weights=row_weights[positions],
            honest_text=batch.honest_text,
            has_text=batch.inputs["has_text"],
            gate_loss=config.gate_loss,
        )
        run.optimizer.zero_grad()
        # Processes average their gradients: scaled so, the average is the mean over the rows of the whole step.
        accelerator.backward(losses.total * accelerator.num_processes / len(plan.batches[step]))
        run.optimizer.step()
        sums += torch.stack([losses.total.detach(), losses.fused, losses.image, losses.text])
        bar.update()
    means = (accelerator.reduce(sums, reduction="sum") / len(rows)).tolist()
    names = ("loss", "loss_fused", "loss_image", "loss_text")
    return {name: round(mean, 6) for name, mean in zip(names, means, strict=True)}


def _agreed_fingerprint(run: Training) -> str:
    """Hash of the weights in training, after checking that it is the same on every process."""
    from accelerate.utils import broadcast, gather_object

    if run.accelerator.num_processes > 1:
        for buffer in run.model.buffers():
            # Statistics of a batch are each process's own; the first one's hold, as they do inside a step.
            buffer.copy_(broadcast(buffer.clone(), from_process=0))
    own = fingerprint(run.model, trained_only=True)
    if len(set(gather_object([own]))) > 1:
        raise RuntimeError("the processes' weights have drifted apart; this is a defect, please report it")
    return own


def _set_learning_rate(run: Training, stage: Stage, *, done: float) -> None:
    """Set the learning rate of all groups after the part `done` (0 to 1) of the stage."""
    rate = run.config.learning_rate if stage.learning_rate is None else stage.learning_rate
    if run.config.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * done)) / 2
    for group in run.optimizer.param_groups:
        group["lr"] = rate


def _use_bf16(config: TrainConfig, device: torch.device) -> bool:
    # On a CPU bf16 is faster on some and many times slower on others, so there it is only used on request.
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


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
