"""The Hugging Face Trainer as fine-tuning uses it: it carries loop, schedule, checkpoints and processes."""

import inspect
import math
from typing import Any

import torch
from transformers import ProgressCallback, Trainer, TrainingArguments
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.trainer_utils import EvalLoopOutput

from data.devices import choose_training_device
from data.errors import InputError
from data.precision_state import forget_precision
from vlm_finetune.checkpoints import FOLDER, SaveByTime
from vlm_finetune.collate import IGNORED, Collator
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.early_stopping import EarlyStopping
from vlm_finetune.history import History
from vlm_finetune.image_features import ImageFeatures, encode_images, keeps_images
from vlm_finetune.loss_bar import LossBar
from vlm_finetune.nan_guard import ROWS, NanGuard, NumberedCollator, NumberedRows
from vlm_finetune.pairs import PairDataset
from vlm_finetune.parts import base_of
from vlm_finetune.precision import Precision
from vlm_finetune.samples import SampleWriter
from vlm_finetune.step_sampler import StepSampler
from vlm_finetune.trackers import keep_tensorboard_in

_NEVER = 10**9


class DescribingTrainer(Trainer):
    """Trainer whose evaluations also describe patches, and which stops at a loss that is not finite."""

    def __init__(self, *, train: PairDataset, samples: SampleWriter, guard: NanGuard, **arguments: Any) -> None:
        super().__init__(train_dataset=NumberedRows(train), **arguments)
        self.lengths = [len(answer.ids) for answer in train.answers]
        self.samples = samples
        self.guard = guard
        self.add_callback(guard)
        self.images: ImageFeatures | None = None
        self.chooses_logits = "logits_to_keep" in inspect.signature(base_of(self.model).forward).parameters

    def compute_loss(self, model: Any, inputs: dict[str, Any], *arguments: Any, **settings: Any) -> Any:
        """Loss of a batch, as the Trainer computes it.

        Raises:
            InputError: it is not finite; the patches are in nan_batch.json.
        """
        rows = inputs.pop(ROWS, None)
        if rows is not None and self.images is not None:
            inputs["mm_encoder_outputs"] = self.images.batch(rows.tolist(), self.args.device)
        if self.chooses_logits:
            # The prompt's logits are not trained, and over a whole vocabulary they are most of a batch's memory.
            first = (inputs["labels"] != IGNORED).int().argmax(1).min()
            inputs["logits_to_keep"] = inputs["labels"].shape[1] - int(first) + 1
        result = super().compute_loss(model, inputs, *arguments, **settings)
        if rows is not None:
            loss = result[0] if isinstance(result, tuple) else result
            step, process = self.state.global_step + 1, self.args.process_index
            self.guard.see(rows, loss.detach(), step=step, process=process)
        return result

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        """Order of the training rows; called by the Trainer."""
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return StepSampler(self.lengths, step_rows=rows, seed=self.args.seed)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None are counted: the Trainer would go through all parameters at every step for a figure nobody reads."""
        return 0

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> EvalLoopOutput:
        """Loss of the validation pairs, and the finding macro-F1 of descriptions of some of them.

        Raises:
            InputError: the loss is not finite.
        """
        output = super().evaluation_loop(*arguments, **settings)
        assert output.metrics is not None
        step = self.state.global_step
        if not math.isfinite(output.metrics["eval_loss"]):
            raise InputError(f"the validation loss of step {step} is not finite; lower --learning_rate")
        samples = self.samples.describe(self.model, step=step)
        output.metrics["eval_finding_f1"] = samples.scores.macro_f1
        return output


def token_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy per answer token, over all batches and processes whose gradients are summed for one step.

    The models of several families average each batch by itself; then short answers would weigh more than long ones,
    and two processes would train another adapter than one.

    Args:
        labels: (N, L), -100 where nothing is to be learnt; the logits may be those of the last tokens alone.
        num_items_in_batch: answer tokens of the whole step; None averages over this batch.
    """
    logits = outputs.logits
    labels = labels[:, -logits.shape[1] :]
    return ForCausalLMLoss(logits, labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items_in_batch)


def build_trainer(
    config: FinetuneConfig,
    model: Any,
    *,
    train: PairDataset,
    val: PairDataset,
    samples: SampleWriter,
    precision: Precision,
) -> DescribingTrainer:
    """Trainer of `model` for the settings `config`."""
    tokenizer = train.processor.tokenizer
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    forget_precision()
    trainer = DescribingTrainer(
        samples=samples,
        guard=NanGuard([pair.patch_id for pair in train.pairs], config.out),
        model=model,
        args=_arguments(config, evaluated=len(val) > 0, precision=precision),
        train=train,
        eval_dataset=val if len(val) else None,
        data_collator=NumberedCollator(Collator(pad_id=pad_id)),
        compute_loss_func=token_loss,
        callbacks=[History(config.out / "history.csv"), SaveByTime(config.checkpoint_seconds)],
    )
    if config.early_stopping != "none":
        trainer.add_callback(EarlyStopping(early_stopping_patience=config.patience))
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(LossBar)
    keep_tensorboard_in(config.out / "tensorboard", trainer.callback_handler.callbacks)
    if config.cache_images and keeps_images(model):
        trainer.images = encode_images(model, train, workers=config.workers, shown=trainer.is_world_process_zero())
    return trainer


def _arguments(config: FinetuneConfig, *, evaluated: bool, precision: Precision) -> TrainingArguments:
    checkpointing: dict[str, Any] = {}
    if config.gradient_checkpointing:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    best: dict[str, Any] = {"save_strategy": "no"}
    if config.early_stopping != "none":
        best = {
            "save_strategy": "steps",
            "save_steps": 1 / config.evaluations,
            "load_best_model_at_end": True,
            "metric_for_best_model": config.early_stopping,
            "greater_is_better": config.early_stopping == "finding_f1",
        }
    return TrainingArguments(
        output_dir=str(config.out / FOLDER),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        **checkpointing,
        # peft keeps the adapter in float32; autocast lets it meet a bfloat16 base.
        bf16=precision.arithmetic == torch.bfloat16,
        eval_strategy="steps" if evaluated else "no",
        # The end is always evaluated; a share of 1 would mean every step.
        eval_steps=1 / config.evaluations if config.evaluations > 1 else _NEVER,
        **best,
        # Besides the best one and the newest, the one before it: a kill may come while the newest is written.
        save_total_limit=3,
        restore_callback_states_from_checkpoint=True,
        logging_steps=0.1,
        # NanGuard stops at such a loss; the Trainer would log another in its place.
        logging_nan_inf_filter=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=config.workers,
        # What they have cached would end with them.
        dataloader_persistent_workers=config.workers > 0,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        report_to=list(config.trackers) or "none",
        use_cpu=choose_training_device(config.device).type == "cpu",
        seed=config.seed,
        data_seed=config.seed,
    )


def memory_advice(config: FinetuneConfig) -> InputError:
    """What to change when memory runs out, by the settings' names."""
    smaller = max(1, config.batch_size // 2)
    steps = config.batch_size * config.accumulation // smaller
    advice = [f"--batch_size {smaller} --accumulation {steps} (the same product)"] if config.batch_size > 1 else []
    advice += [] if config.gradient_checkpointing else ["--gradient_checkpointing"]
    advice.append(f"--image_px below {config.image_px}")
    return InputError(f"out of memory with --batch_size {config.batch_size}; try {', '.join(advice)}")
