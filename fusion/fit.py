"""Fit the stages of the curriculum, one after the other, from the last checkpoint on."""

import math
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fusion.curriculum import Stage
from fusion.frozen import encode_frozen
from fusion.model import fingerprint
from fusion.objective import class_weights, curriculum_loss
from fusion.run_folder import Checkpoints, Progress, load_progress, write_history
from fusion.training import Training
from fusion.validation import score, validate


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
    accelerator, model = run.accelerator, run.model
    total = sum(stage.epochs for stage in run.config.stages)
    model.freeze(stage)
    # Wrapped anew in every stage: a wrapper that has seen other parameters train lets the processes drift apart.
    wrapped = accelerator.prepare(model)
    encode_frozen(run, stage)
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
            progress.best = model.unfrozen_state()
        progress.epochs = before + epoch + 1
        bar.set_postfix(loss=f"{losses['loss']:.3f}", val=f"{scores['fused'] or 0:.3f}")
        if accelerator.is_main_process:
            # After the last epoch the model itself is written next.
            checkpoints.save(model, run.optimizer, progress, now=epoch == stage.epochs - 1 and progress.epochs < total)
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
        output = wrapped(**batch.inputs)
        losses = curriculum_loss(
            output,
            labels[positions],
            alpha=stage.alpha(epoch),
            weights=row_weights[positions],
            honest_text=batch.honest_text,
            has_text=batch.inputs["has_text"],
            keeps_image_loss=run.model.block.keeps_image_loss,
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
