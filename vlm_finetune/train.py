"""Fine-tune a vision-language model on image–description pairs: `accelerate launch -m vlm_finetune.train`."""

import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import digest, write_json, write_text
from data.claim import check_claim, claim
from data.command import config_yaml, run_command
from data.devices import choose_training_device
from data.errors import InputError
from data.out_of_memory import is_out_of_memory
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.crossfit import without_fold
from vlm_finetune.model_card import adapter_card
from vlm_finetune.quantised import check_quantisation
from vlm_finetune.run_folder import (
    ADAPTER,
    CONFIG_FILE,
    METRICS_FILE,
    MODEL,
    describe_data,
    write_run_folder,
)
from vlm_finetune.trackers import check_trackers
from vlm_finetune.unseen import FOLDS_FOLDER

if TYPE_CHECKING:
    from vlm_finetune.pairs import Pair, PairDataset
    from vlm_finetune.precision import Precision
    from vlm_finetune.prompt import PatchPrompt
    from vlm_finetune.trainer import DescribingTrainer

_WITHOUT_EFFECT = (
    "trust_remote_code",
    "manifest",
    "out",
    "taxonomy",
    "workers",
    "device",
    "checkpoint_seconds",
    "trackers",
    "crossfit",
    "fold",
)
"""Settings that do not decide the adapter: places, how the work is done, and folds, which the data tells apart."""


@dataclass(frozen=True)
class _Run:
    """Everything that was checked before a model is loaded."""

    config: FinetuneConfig
    taxonomy: Taxonomy
    splits: "dict[str, list[Pair]]"
    data: dict[str, dict[str, Any]]
    folder: Path
    """Of the base model."""
    base_key: str


def finetune(config: FinetuneConfig) -> Path:
    """Train an adapter and return `config.out`, which then holds it with its prompt, settings, patients and scores.

    A finished run of the same settings and data is not repeated; an interrupted one goes on from its last checkpoint.

    Raises:
        InputError: no training pairs, a bad row, a missing model, an output folder that holds another run, memory
            that does not suffice, or a loss that is not finite.
    """
    _finetune(config)
    for fold in range(1, config.crossfit + 1):
        if config.fold == 0:
            _finetune(replace(config, out=config.out / FOLDS_FOLDER / str(fold), fold=fold))
    return config.out


def _finetune(config: FinetuneConfig) -> None:
    """One adapter: on all training patients, or without those of a fold."""
    run = _setup(config)
    if run is None:
        print(f"{config.out}: already trained with these settings and data")
        return
    try:
        _train(run)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        from vlm_finetune.trainer import memory_advice

        raise memory_advice(config) from error


def _setup(config: FinetuneConfig) -> _Run | None:
    """Check everything that can be wrong, cheapest first, and take the folder; None where the run is finished."""
    from vlm_finetune.model import find_model, folder_key, process_state
    from vlm_finetune.pairs import read_pairs

    # Everything that can be wrong with the data is found before a model is loaded.
    taxonomy = load_taxonomy(config.taxonomy)
    splits = {split: read_pairs(config.manifest, split, taxonomy) for split in ("train", "val")}
    if not splits["train"]:
        raise InputError(f"{config.manifest}: no row of the split train has a description; add some and prepare again")
    if config.crossfit:
        splits["train"] = without_fold(splits["train"], fold=config.fold, folds=config.crossfit, seed=config.seed)
    _check(config, splits["val"])
    folder = find_model(config.model)
    run = _Run(config, taxonomy, splits, describe_data(splits), folder, folder_key(folder))
    key = _run_key(run)
    finished = check_claim(config.out, key=key) and (config.out / METRICS_FILE).is_file()
    # Other processes must have looked at the folder before it is written to.
    state = process_state(config.device)
    state.wait_for_everyone()
    if finished:
        return None
    if state.is_main_process:
        from vlm_finetune.checkpoints import drop_partial_checkpoints

        claim(config.out, key=key)
        write_text(config.out / CONFIG_FILE, config_yaml(config))
        write_run_folder(config.out, splits=splits, data=run.data, taxonomy=taxonomy)
        drop_partial_checkpoints(config.out)
    state.wait_for_everyone()
    return run


def _train(run: _Run) -> None:
    from transformers import set_seed
    from transformers.utils import logging

    from vlm_finetune.checkpoints import newest_checkpoint
    from vlm_finetune.model import load_processor
    from vlm_finetune.pairs import PairDataset
    from vlm_finetune.precision import Precision
    from vlm_finetune.prompt import PatchPrompt
    from vlm_finetune.samples import SampleWriter, pick
    from vlm_finetune.trained_weights import save_weights, whole_weights
    from vlm_finetune.trainer import build_trainer

    config = run.config
    # What a user can act on is said here; the library's notes on its checkpoints are not.
    logging.set_verbosity_error()
    set_seed(config.seed)
    prompt = PatchPrompt.fill(
        system=config.system, question=config.question, image_px=config.image_px, taxonomy=run.taxonomy
    )
    trusted = config.model in config.trust_remote_code
    processor = load_processor(run.folder, image_px=prompt.image_px, remote_code=trusted)
    training, validation = (
        PairDataset(pairs, prompt=prompt, processor=processor, max_length=config.max_length, cache=config.cache_images)
        for pairs in run.splits.values()
    )
    precision = Precision.of(config.dtype, choose_training_device(config.device))
    samples = SampleWriter(
        pick(run.splits["val"], config.sample_patches),
        processor=processor,
        prompt=prompt,
        taxonomy=run.taxonomy,
        max_new_tokens=config.sample_tokens,
        folder=config.out / "samples",
    )
    model = _load(run, precision)
    trainer = build_trainer(config, model, train=training, val=validation, samples=samples, precision=precision)
    if trainer.is_world_process_zero():
        _report(training, validation, model)
    checkpoint = newest_checkpoint(config.out, processes=trainer.args.world_size)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    metrics = _measure(config, trainer, training, validation)
    weights = whole_weights(trainer)
    if trainer.is_world_process_zero():
        save_weights(
            config, trainer, weights, base=run.folder, base_key=run.base_key, prompt=prompt, dtype=precision.weights
        )
        _finish(run, samples.latest, metrics, prompt=prompt)
    trainer.accelerator.wait_for_everyone()


def _check(config: FinetuneConfig, val: "list[Pair]") -> None:
    """Check what depends on this machine or on the data."""
    check_trackers(config.trackers)
    device = choose_training_device(config.device)
    if config.quantise == "4bit":
        check_quantisation(device)
    if config.early_stopping != "none" and not val:
        raise InputError(f"{config.manifest}: no row of the split val has a description, which --early_stopping needs")
    if config.early_stopping == "finding_f1":
        from vlm_finetune.samples import pick

        if not any(pair.findings for pair in pick(val, config.sample_patches)):
            raise InputError(
                f"{config.manifest}: no finding of the validation patches is known; set --early_stopping loss"
            )


def _load(run: _Run, precision: "Precision") -> Any:
    """Base model, made ready to be trained: with a fresh adapter, or as a whole."""
    import torch

    from vlm_finetune.lora import LoraScope, add_lora
    from vlm_finetune.model import load_base
    from vlm_finetune.quantised import load_quantised

    config = run.config
    trusted = config.model in config.trust_remote_code
    if config.quantise == "4bit":
        base = load_quantised(
            run.folder,
            dtype=precision.weights,
            gradient_checkpointing=config.gradient_checkpointing,
            remote_code=trusted,
        )
    else:
        # Small steps would be lost in the rounding of 16-bit weights; autocast makes the arithmetic as fast.
        dtype = torch.float32 if config.tune == "full" else precision.weights
        base = load_base(run.folder, dtype=dtype, remote_code=trusted)
    if precision.arithmetic == torch.bfloat16 and choose_training_device(config.device).type == "cpu":
        # The CPU's fused attention takes three times as long backwards in bfloat16 as in float32.
        base.get_decoder().set_attn_implementation("eager")
    if config.tune == "full":
        return base
    scope = LoraScope(
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        modules=config.lora_modules,
        vision=config.lora_vision,
        projector=config.lora_projector,
        vision_rank=config.lora_vision_rank,
        projector_rank=config.lora_projector_rank,
        variant=config.lora_variant,
    )
    model = add_lora(base, scope)
    if config.gradient_checkpointing:
        # Without it the frozen embeddings hand no gradient to the checkpointed blocks.
        model.enable_input_require_grads()
    return model


def _report(train: "PairDataset", val: "PairDataset", model: Any) -> None:
    from vlm_finetune.lora import adapted_parts

    what = "all weights are trained"
    if hasattr(model, "peft_config"):
        parts = ", ".join(f"{count} in the {part} part" for part, count in sorted(adapted_parts(model).items()))
        what = f"adapted modules: {parts}"
    print(f"{len(train)} training and {len(val)} validation pairs; {what}")
    for name, dataset in (("train", train), ("val", val)):
        if dataset.shortened:
            print(f"{dataset.shortened} of {len(dataset)} {name} descriptions exceed --max_length and were shortened")


def _measure(
    config: FinetuneConfig, trainer: "DescribingTrainer", train: "PairDataset", val: "PairDataset"
) -> dict[str, Any]:
    """What metrics.json holds: figures of the weights that are kept, and which these are."""
    state = trainer.state
    best = config.early_stopping != "none"
    step = state.best_global_step if best else state.global_step
    assert step is not None
    metrics: dict[str, Any] = {
        "train": {"pairs": len(train), "shortened": train.shortened},
        "val": None,
        "kept": {"which": "best" if best else "last", "step": step, "steps": state.global_step},
    }
    if best:
        metrics["kept"] |= {"measure": config.early_stopping, "value": state.best_metric}
    if len(val):
        samples = trainer.samples.latest
        if samples is None or samples.step != step:
            # The best weights were loaded, or the run was killed after its last evaluation.
            samples = trainer.samples.describe(trainer.accelerator.unwrap_model(trainer.model).eval(), step=step)
        loss = next(row["eval_loss"] for row in state.log_history if row["step"] == step and "eval_loss" in row)
        scores = {name: _number(value) for name, value in asdict(samples.scores).items()}
        metrics["val"] = {"loss": loss, "described": len(samples.pairs), **scores}
    return metrics


def _number(value: Any) -> Any:
    """`value`, or None for the NaN of a mean over nothing, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _finish(run: _Run, samples: Any, metrics: dict[str, Any], *, prompt: "PatchPrompt") -> None:
    """Write the card, and metrics.json last, as the mark of a finished run; then drop the checkpoints."""
    out = run.config.out
    card = adapter_card(run.config, taxonomy=run.taxonomy, prompt=prompt, data=run.data, metrics=metrics)
    write_text(out / (MODEL if run.config.tune == "full" else ADAPTER) / "README.md", card)
    if samples is not None:
        samples.write(out / "samples.md")
        f1 = samples.scores.macro_f1
        print(
            f"validation: loss {metrics['val']['loss']:.3f}, finding macro-F1 {f1:.3f}; texts in {out / 'samples.md'}"
        )
    write_json(out / METRICS_FILE, metrics)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _run_key(run: _Run) -> str:
    """Hash of what decides the adapter: settings, and the content of manifest, images, taxonomy and base model."""
    settings = {name: str(value) for name, value in asdict(run.config).items() if name not in _WITHOUT_EFFECT}
    return digest(
        json.dumps([settings, run.data], sort_keys=True),
        run.config.manifest.read_bytes(),
        run.taxonomy.key,
        run.base_key,
    )


if __name__ == "__main__":
    raise SystemExit(run_command(finetune, FinetuneConfig, name="finetune"))
