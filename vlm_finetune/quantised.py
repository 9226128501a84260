"""A frozen base in four bits, for QLoRA (arXiv 2305.14314)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.errors import InputError
from vlm_finetune.remote_code import refuse_remote_code


def check_quantisation(device: Any) -> None:
    """Make sure that a base can be kept in 4 bits on `device`.

    Raises:
        InputError: no CUDA, or no bitsandbytes.
    """
    if device.type != "cuda":
        raise InputError(f"--quantise 4bit: needs CUDA, not {device.type}; set --quantise none")
    if find_spec("bitsandbytes") is None:
        raise InputError("--quantise 4bit: needs the package bitsandbytes; `pip install mmlnb[qlora]`")


def load_quantised(folder: Path, *, dtype: Any, gradient_checkpointing: bool, remote_code: bool = False) -> Any:
    """Model in `folder` with its linear layers in NF4, on this process's GPU, ready for an adapter.

    Args:
        dtype: of the arithmetic.
        remote_code: let code run that comes with the model.
    """
    from accelerate import PartialState
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            quantization_config=config,
            device_map={"": PartialState().device},
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=remote_code,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        refuse_remote_code(folder, error)
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: cannot be loaded in 4 bits ({line}); set --quantise none") from error
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
