"""The trained weights on disk, whole, be it that they lie in shards on several processes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_finetune.config import FinetuneConfig
from vlm_finetune.run_folder import ADAPTER, MODEL

if TYPE_CHECKING:
    from vlm_finetune.prompt import PatchPrompt
    from vlm_finetune.trainer import DescribingTrainer


def whole_weights(trainer: "DescribingTrainer") -> dict[str, Any] | None:
    """All weights by name, on the CPU of the main process; None where every process has the model as a whole.

    All processes have to call it.
    """
    from accelerate.utils import DistributedType

    accelerator = trainer.accelerator
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        sharded = accelerator.deepspeed_plugin.zero_stage == 3
    return accelerator.get_state_dict(trainer.model_wrapped) if sharded else None


def save_weights(
    config: FinetuneConfig,
    trainer: "DescribingTrainer",
    weights: dict[str, Any] | None,
    *,
    base: Path,
    base_key: str,
    prompt: "PatchPrompt",
    dtype: Any,
) -> None:
    """Write the weights, whole or as an adapter, with the prompt in their folder and beside it.

    `weights` are those of `whole_weights`; `base_key` is the hash of the base model in the folder `base`.
    """
    from vlm_finetune.model import load_base, save_base

    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.tune == "full":
        folder = config.out / MODEL
        if weights is not None:
            # A model in shards is saved by all processes together or not at all.
            model = load_base(base, dtype=dtype)
            model.load_state_dict(weights)
        model.to(dtype).save_pretrained(folder)
        trainer.samples.processor.save_pretrained(folder)
    else:
        folder = config.out / ADAPTER
        # The name goes into the adapter, not this machine's path to it.
        model.peft_config["default"].base_model_name_or_path = config.model
        model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
        save_base(folder, name=config.model, model_key=base_key)
    prompt.save(config.out)
    prompt.save(folder)
