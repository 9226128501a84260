"""Fine-tune a vision-language model by LoRA on image–description pairs: `accelerate launch -m vlm_finetune.train`."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import digest, write_json, write_text
from data.claim import MARK, check_claim
from data.command import config_yaml, run_command
from data.devices import choose_training_device
from data.errors import InputError
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.config import FinetuneConfig

if TYPE_CHECKING:
    from vlm_finetune.pairs import PairDataset
    from vlm_finetune.prompt import PatchPrompt
    from vlm_finetune.samples import SampleCallback

CONFIG_FILE, METRICS_FILE, TRAINED_ON_FILE = "config.yaml", "metrics.json", "trained_on.json"
_CHECKPOINTS = "checkpoints"


def finetune(config: FinetuneConfig) -> Path:
    """Train an adapter and return `config.out`, which then holds it with its prompt, settings, patients and scores.

    A finished run of the same settings and data is not repeated; an interrupted one goes on from its last checkpoint.

    Raises:
        InputError: no training pairs, a bad row, a missing model, or an output folder that holds another run.
    """
    from vlm_finetune.model import find_model, folder_key
    from vlm_finetune.pairs import read_pairs

    # Everything that can be wrong with the data is found before a model is loaded.
    taxonomy = load_taxonomy(config.taxonomy)
    train, val = (read_pairs(config.manifest, split, taxonomy) for split in ("train", "val"))
    if not train:
        raise InputError(f"{config.manifest}: no row of the split train has a description; add some and prepare again")
    _check(config)
    folder = find_model(config.model)
    base_key = folder_key(folder)
    key = _run_key(config, taxonomy=taxonomy, base_key=base_key)
    if _finished(config, key=key):
        print(f"{config.out}: already trained with these settings and data")
        return config.out

    from transformers import set_seed
    from transformers.utils import logging

    from vlm_finetune.model import choose_dtype, load_base, load_processor
    from vlm_finetune.pairs import PairDataset
    from vlm_finetune.prompt import PatchPrompt
    from vlm_finetune.samples import SampleCallback, pick

    # What a user can act on is said here; the library's notes on its checkpoints are not.
    logging.set_verbosity_error()
    set_seed(config.seed)
    prompt = PatchPrompt.fill(
        system=config.system, question=config.question, image_px=config.image_px, taxonomy=taxonomy
    )
    processor = load_processor(folder, image_px=prompt.image_px)
    training, validation = (
        PairDataset(pairs, prompt=prompt, processor=processor, max_length=config.max_length, cache=config.cache_pixels)
        for pairs in (train, val)
    )
    base = load_base(folder, dtype=choose_dtype(config.dtype, choose_training_device(config.device)))
    model = _adapt(config, base)
    samples = SampleCallback(
        pick(val, config.sample_patches),
        processor=processor,
        prompt=prompt,
        taxonomy=taxonomy,
        max_new_tokens=config.sample_tokens,
        path=config.out / "samples.md",
    )
    trainer = _trainer(config, model, training, validation, samples)
    if trainer.is_world_process_zero():
        # Checked above; the Trainer has put its folder there since.
        write_json(config.out / MARK, {"key": key})
        write_text(config.out / CONFIG_FILE, config_yaml(config))
        _report(training, validation, model)
    trainer.train(resume_from_checkpoint=_last_checkpoint(config.out))
    val_loss = trainer.evaluate()["eval_loss"] if val else None
    if trainer.is_world_process_zero():
        _save(config, trainer, training, prompt=prompt, base_key=base_key)
        _finish(config, training, samples, val_loss=val_loss)
    trainer.accelerator.wait_for_everyone()
    return config.out


def _check(config: FinetuneConfig) -> None:
    for name in ("epochs", "learning_rate", "batch_size", "accumulation", "lora_rank", "lora_alpha", "evaluations"):
        if getattr(config, name) <= 0:
            raise InputError(f"--{name} {getattr(config, name)}: give more than 0")
    choose_training_device(config.device)


def _adapt(config: FinetuneConfig, base: Any) -> Any:
    """`base` with a fresh adapter."""
    from vlm_finetune.lora import LoraScope, add_lora

    scope = LoraScope(
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        modules=config.lora_modules,
        vision=config.lora_vision,
        projector=config.lora_projector,
    )
    model = add_lora(base, scope)
    if config.gradient_checkpointing:
        # Without it the frozen embeddings hand no gradient to the checkpointed blocks.
        model.enable_input_require_grads()
    return model


def _trainer(
    config: FinetuneConfig, model: Any, train: "PairDataset", val: "PairDataset", samples: "SampleCallback"
) -> Any:
    """The Hugging Face Trainer, which carries the loop, the schedule, the checkpoints and the processes."""
    import torch
    from transformers import ProgressCallback, Trainer, TrainingArguments

    from vlm_finetune.collate import Collator
    from vlm_finetune.loss_bar import LossBar

    checkpointing: dict[str, Any] = {}
    if config.gradient_checkpointing:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    arguments = TrainingArguments(
        output_dir=str(config.out / _CHECKPOINTS),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        **checkpointing,
        # peft keeps the adapter in float32; autocast lets it meet a bfloat16 base.
        bf16=next(model.get_base_model().parameters()).dtype == torch.bfloat16,
        eval_strategy="steps" if len(val) and config.evaluations > 1 else "no",
        eval_steps=1 / config.evaluations,
        save_strategy="steps",
        save_steps=0.25,
        save_total_limit=1,
        logging_steps=0.1,
        prediction_loss_only=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        report_to="none",
        use_cpu=choose_training_device(config.device).type == "cpu",
        seed=config.seed,
        data_seed=config.seed,
    )
    tokenizer = train.processor.tokenizer
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=val if len(val) else None,
        data_collator=Collator(
            pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        ),
        callbacks=[samples],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LossBar)
    return trainer


def _report(train: "PairDataset", val: "PairDataset", model: Any) -> None:
    from vlm_finetune.lora import adapted_parts

    parts = ", ".join(f"{count} in the {part} part" for part, count in sorted(adapted_parts(model).items()))
    print(f"{len(train)} training and {len(val)} validation pairs; adapted modules: {parts}")
    for name, dataset in (("train", train), ("val", val)):
        if dataset.shortened:
            print(f"{dataset.shortened} of {len(dataset)} {name} descriptions exceed --max_length and were shortened")


def _save(config: FinetuneConfig, trainer: Any, train: "PairDataset", *, prompt: "PatchPrompt", base_key: str) -> None:
    from vlm_finetune.model import save_base

    folder = config.out / "adapter"
    model = trainer.accelerator.unwrap_model(trainer.model)
    # The name goes into the adapter, not this machine's path to it.
    model.peft_config["default"].base_model_name_or_path = config.model
    model.save_pretrained(folder, save_embedding_layers=False)
    # peft's card is a form with nothing filled in.
    (folder / "README.md").unlink(missing_ok=True)
    save_base(folder, name=config.model, model_key=base_key)
    prompt.save(config.out)
    patients = sorted({pair.patient_id for pair in train.pairs if pair.patient_id is not None})
    write_json(config.out / TRAINED_ON_FILE, {"patients": patients, "pairs": len(train)})


def _finish(config: FinetuneConfig, train: "PairDataset", samples: "SampleCallback", *, val_loss: float | None) -> None:
    """Write metrics.json last, as the mark of a finished run, and drop the checkpoints."""
    metrics: dict[str, Any] = {"train": {"pairs": len(train), "shortened": train.shortened}, "val": None}
    if val_loss is not None and samples.latest is not None:
        scores = samples.latest.scores
        metrics["val"] = {"loss": val_loss, "described": len(samples.pairs), **asdict(scores)}
        print(f"validation: loss {val_loss:.3f}, finding macro-F1 {scores.macro_f1:.3f}; texts in {samples.path}")
    write_json(config.out / METRICS_FILE, metrics)
    shutil.rmtree(config.out / _CHECKPOINTS, ignore_errors=True)


def _finished(config: FinetuneConfig, *, key: str) -> bool:
    """Whether `config.out` holds this very run, finished.

    Raises:
        InputError: it holds another one, or one that cannot be told.
    """
    return check_claim(config.out, key=key) and (config.out / METRICS_FILE).is_file()


def _run_key(config: FinetuneConfig, *, taxonomy: Taxonomy, base_key: str) -> str:
    """Hash of what decides the adapter: settings, and the content of manifest, taxonomy and base model."""
    without = ("manifest", "out", "taxonomy", "workers", "device")
    settings = {name: str(value) for name, value in asdict(config).items() if name not in without}
    return digest(json.dumps(settings, sort_keys=True), config.manifest.read_bytes(), taxonomy.key, base_key)


def _last_checkpoint(out: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    folder = out / _CHECKPOINTS
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


if __name__ == "__main__":
    raise SystemExit(run_command(finetune, FinetuneConfig, name="finetune"))
