"""Fit the stages of the curriculum, one after the other, from the last checkpoint on."""

import math
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fusion.curriculum import Stage
from fusion.early_stopping import end_stage, note_epoch
from fusion.frozen import encode_frozen
from fusion.model import fingerprint
from fusion.objective import class_weights, curriculum_loss, log_class_counts
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
    bar = tqdm(
        total=(progress.epochs + _epochs_left(run, progress)) * steps,
        initial=progress.epochs * steps,
        desc="training",
        unit="step",
        disable=not run.progress_bars,
    )
    checkpoints = Checkpoints(run.config, key=run.key)
    for number, stage in enumerate(run.config.stages):
        if number >= progress.stage and stage.epochs:
            progress.stage = number
            fit_stage(run, stage, progress=progress, checkpoints=checkpoints, bar=bar)
            # Fewer than before if the stage ended early.
            bar.total = (progress.epochs + _epochs_left(run, progress)) * steps
            bar.refresh()
    bar.close()
    return progress


def fit_stage(run: Training, stage: Stage, *, progress: Progress, checkpoints: Checkpoints, bar: "tqdm[Any]") -> None:
    """Train one stage, of which `progress` may have some epochs behind it."""
    accelerator, model = run.accelerator, run.model
    last = not any(later.epochs for later in run.config.stages[progress.stage + 1 :])
    model.freeze(stage)
    # Wrapped anew in every stage: a wrapper that has seen other parameters train lets the processes drift apart.
    wrapped = accelerator.prepare(model)
    encode_frozen(run, stage)
    ended = False
    while not ended:
        epoch, alpha = progress.epochs, stage.alpha(progress.stage_epochs)
        bar.set_description(f"stage {stage.name}, epoch {epoch + 1}, alpha {alpha:g}")
        losses = fit_epoch(run, wrapped, stage, progress=progress, bar=bar)
        weights = _agreed_fingerprint(run)
        scores = score(run, validate(run), stage=stage)
        fused = scores.balanced_accuracy["fused"] or 0.0
        record = {"stage": stage.name, "epoch": epoch + 1, "alpha": alpha, **losses}
        record |= {"val_balanced_accuracy": fused, "val_loss": scores.loss, "val_stage_loss": scores.stage_loss}
        record |= {f"val_{arm}_balanced_accuracy": scores.balanced_accuracy[arm] for arm in ("image", "text")}
        record |= scores.gate
        progress.history.append(record | {"kept": False, "weights": weights})
        # Only the last stage's epochs count: before it the fused classifier is unfinished, and does well by luck alone.
        # Of two with the same balanced accuracy the surer one is kept; test rows have no say.
        if last and (fused, -scores.loss) > progress.best_score:
            progress.best_score, progress.best_epoch = (fused, -scores.loss), epoch
            progress.best = model.unfrozen_state()
        ended = note_epoch(progress, stage, scores.stage_loss, model=model, optimizer=run.optimizer, last=last)
        bar.set_postfix(loss=f"{losses['loss']:.3f}", val=f"{fused:.3f}")
        if ended:
            _say_early_end(run, stage, progress=progress)
            end_stage(progress, model=model, optimizer=run.optimizer, last=last)
        if accelerator.is_main_process:
            # After the last epoch the model itself is written next.
            checkpoints.save(model, run.optimizer, progress, now=ended and not last)
            write_history(run.config.out, progress.history)
    accelerator.free_memory()


def fit_epoch(
    run: Training, wrapped: torch.nn.Module, stage: Stage, *, progress: Progress, bar: "tqdm[Any]"
) -> dict[str, float]:
    """One pass over the training rows, or as many draws; returns the mean losses."""
    config, accelerator, patches = run.config, run.accelerator, run.patches
    epoch = progress.stage_epochs
    plan = run.plan(progress.epochs)
    train_labels = torch.from_numpy(patches.labels[patches.rows("train")])
    classes = len(run.taxonomy.class_names)
    rows = patches.rows("train")[plan.rows]
    labels = train_labels[torch.from_numpy(plan.rows)]
    weights = class_weights(train_labels, classes=classes) if config.balance == "weighted" else torch.ones(classes)
    row_weights, labels = weights[labels].to(accelerator.device), labels.to(accelerator.device)
    log_counts = None
    if config.balance == "balanced-softmax":
        log_counts = log_class_counts(train_labels, classes=classes).to(accelerator.device)
    # Dropout of an epoch depends on the epoch alone, so that a resumed run repeats it.
    entropy = np.random.SeedSequence([config.seed, progress.epochs, accelerator.process_index])
    torch.manual_seed(int(entropy.generate_state(1)[0]))
    own = [batch[accelerator.process_index :: accelerator.num_processes] for batch in plan.batches]
    feed = run.feed.batches(
        [rows[positions] for positions in own],
        texts=[np.where(plan.texts.source[some] < 0, -1, rows[plan.texts.source[some]]) for some in own],
        sentence_seeds=[plan.sentence_seeds[some] for some in own] if "text" in config.augment else None,
        cut=lambda step, place, ids: plan.texts.tokens(int(own[step][place]), ids),
        augment_with=[plan.augment.rows(torch.from_numpy(positions)) for positions in own]
        if "image" in config.augment
        else None,
    )
    sums = torch.zeros(4, device=accelerator.device)
    wrapped.train()
    for step, batch in enumerate(feed):
        _set_learning_rates(run, stage, done=(epoch + step / len(own)) / stage.epochs)
        positions = torch.from_numpy(own[step]).to(accelerator.device)
        output = wrapped(**batch.inputs)
        losses = curriculum_loss(
            output,
            labels[positions],
            alpha=stage.alpha(epoch),
            weights=row_weights[positions],
            honest_text=batch.honest_text,
            has_text=batch.inputs["has_text"],
            image_weight=run.model.block.image_loss_weight(stage.alpha(epoch)),
            gate_loss=config.gate_loss,
            log_counts=log_counts,
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


def _set_learning_rates(run: Training, stage: Stage, *, done: float) -> None:
    """Set the learning rate of every group after the part `done` (0 to 1) of all the stage's epochs."""
    factor = (1 + math.cos(math.pi * done)) / 2 if run.config.schedule == "cosine" else 1.0
    for group in run.optimizer.param_groups:
        group["lr"] = factor * stage.rate(group["part"], default=run.config.learning_rate)


def _epochs_left(run: Training, progress: Progress) -> int:
    """Epochs that are still to come if no stage ends early."""
    return sum(stage.epochs for stage in run.config.stages[progress.stage :]) - progress.stage_epochs


def _say_early_end(run: Training, stage: Stage, *, progress: Progress) -> None:
    if progress.stage_epochs < stage.epochs and run.progress_bars:
        tqdm.write(
            f"stage {stage.name}: ended after {progress.stage_epochs} of {stage.epochs} epochs; its lowest validation "
            f"loss, {progress.stage_best_loss:.4f}, was in epoch {progress.stage_best_epoch + 1}"
        )
