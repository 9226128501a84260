"""Load a vision-language model, its processor and an adapter, and make sure that the adapter is really applied."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.atomic import digest, write_json
from data.devices import choose_device
from data.errors import InputError
from data.weight_files import check_weight_files
from vlm_finetune.encode import encode_prompts, set_image_size
from vlm_finetune.lora import quiet_peft
from vlm_finetune.prompt import PROMPT_FILE, PatchPrompt
from vlm_finetune.remote_code import refuse_remote_code

BASE_FILE = "base.json"
_HASHED_WHOLE = 64 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A model and its adapter on disk, known to fit each other, with the prompt they answer."""

    folder: Path
    adapter: Path | None
    prompt: PatchPrompt
    model_key: str
    adapter_key: str
    remote_code: bool = False
    """Whether code that comes with the model may run."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its processor, the prompt it answers, and hashes of what was loaded."""

    model: Any
    processor: Any
    prompt: PatchPrompt
    model_key: str
    adapter_key: str
    dtype: torch.dtype


def find_model(name: str) -> Path:
    """Folder of the model `name`: "tiny", a folder, or a hub name that is in the local cache.

    Raises:
        InputError: the model is not on this machine, or its weights are pickles.
    """
    if name == "tiny":
        folder = Path(str(resources.files("vlm_finetune") / "tiny" / "weights"))
        if not (folder / "model.safetensors").is_file():
            raise InputError(f"{folder}: the embedded model is missing; rebuild it with `make tiny-vlm`")
        return folder
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise InputError(f"{name}: holds no config.json, so it is not a saved model; give the folder of one")
        check_weight_files(Path(name), name)
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # The network is used only by name: `mmlnb prefetch` fetches, everything else reads the cache.
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise InputError(f"{name}: no such model on this machine; fetch it with `mmlnb prefetch {name}`") from error
    check_weight_files(folder, name)
    return folder


def find_adapter(path: Path) -> Path:
    """Folder with adapter_config.json: `path`, or `path/adapter` for the output of a fine-tuning run."""
    for folder in (path, path / "adapter"):
        if (folder / "adapter_config.json").is_file():
            return folder
    raise InputError(f"{path}: holds no adapter (no adapter_config.json); give the output folder of `mmlnb finetune`")


def adapter_prompt(path: Path) -> PatchPrompt:
    """Prompt that the adapter at `path` was trained with; it lies in the adapter's folder or beside it."""
    folder = find_adapter(path)
    return PatchPrompt.load(folder if (folder / PROMPT_FILE).is_file() else folder.parent)


def folder_key(folder: Path) -> str:
    """Hash of the files in a model folder; of very large ones the size, head and tail count."""
    parts: list[str | bytes] = []
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".jinja", ".txt"} and path.is_file():
            size = path.stat().st_size
            with path.open("rb") as file:
                content = file.read(_HASHED_WHOLE)
                if size > _HASHED_WHOLE:
                    file.seek(-(2**20), 2)
                    content += file.read()
            parts += [path.name, str(size), content]
    return digest(*parts)


def weights_key(adapter: Path) -> str:
    """Hash of an adapter's weights and settings, wherever it was copied to."""
    folder = find_adapter(adapter)
    return digest(*((folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")))


def process_state(device: str) -> Any:
    """This process among those of `accelerate launch`; without a GPU the processes meet on the CPU.

    Raises:
        InputError: the device is not on this machine.
    """
    from accelerate import PartialState

    return PartialState(cpu=choose_device(device).type == "cpu")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Data type `name`; "auto" is bfloat16 on a GPU and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in ("float32", "bfloat16", "float16"):
        raise InputError(f"--dtype {name}: expected auto, float32, bfloat16 or float16")
    return getattr(torch, name)


def load_processor(folder: Path, *, image_px: int, remote_code: bool = False) -> Any:
    """Processor in `folder`, set so that a square patch of `image_px` keeps its size.

    Args:
        remote_code: let code run that comes with the model.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=remote_code)
    except (OSError, ValueError, ImportError) as error:
        refuse_remote_code(folder, error)
        raise InputError(f"{folder}: its processor cannot be loaded ({_first_line(error)})") from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise InputError(f"{folder}: has no image processor with a tokenizer; give a vision-language model")
    if processor.tokenizer.pad_token is None:
        # Padding is masked, so that any token will do; without one a batch cannot be made.
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    set_image_size(processor, image_px)
    return processor


def load_base(folder: Path, *, dtype: torch.dtype, remote_code: bool = False) -> Any:
    """Model in `folder`, on the CPU, in eval mode.

    Args:
        remote_code: let code run that comes with the model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=remote_code
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        refuse_remote_code(folder, error)
        raise InputError(f"{folder}: cannot be loaded as a vision-language model ({_first_line(error)})") from error
    return model.eval()


def find_checkpoint(
    name: str,
    *,
    prompt: PatchPrompt | None,
    default_prompt: PatchPrompt,
    adapter: Path | None,
    remote_code: bool = False,
) -> Checkpoint:
    """The model `name` with `adapter`, as they lie on disk.

    Args:
        prompt: asked of the model; None takes the one it was fine-tuned with, or `default_prompt` where it was not.
        remote_code: let code run that comes with the model.

    Raises:
        InputError: missing files, or an adapter of another base or prompt.
    """
    folder = find_model(name)
    model_key = folder_key(folder)
    # A model that was fine-tuned as a whole, or merged, has its prompt with it.
    tuned = adapter if adapter is not None else folder if (folder / PROMPT_FILE).is_file() else None
    if tuned is not None:
        trained = adapter_prompt(tuned) if adapter is not None else PatchPrompt.load(tuned)
        if prompt is not None and prompt.key != trained.key:
            raise InputError(
                f"{tuned}: trained with another prompt (question {trained.question!r}, system {trained.system!r}, "
                f"{trained.image_px} px); leave --question, --system and --image_px out, or set them to these"
            )
        prompt = trained
    if adapter is not None:
        check_base(adapter, model_key, name)
    adapter_key = weights_key(adapter) if adapter is not None else ""
    return Checkpoint(folder, adapter, prompt or default_prompt, model_key, adapter_key, remote_code)


def load(checkpoint: Checkpoint, *, device: str, dtype: str) -> LoadedModel:
    """Load `checkpoint`, ready to describe patches.

    Raises:
        InputError: what is there cannot be loaded, or the adapter has no effect.
    """
    where = choose_device(device)
    kind = choose_dtype(dtype, where)
    code = checkpoint.remote_code
    processor = load_processor(checkpoint.folder, image_px=checkpoint.prompt.image_px, remote_code=code)
    model = load_base(checkpoint.folder, dtype=kind, remote_code=code).to(where)
    if checkpoint.adapter is not None:
        model = load_adapter(model, checkpoint.adapter, processor=processor, prompt=checkpoint.prompt)
    return LoadedModel(
        model=model,
        processor=processor,
        prompt=checkpoint.prompt,
        model_key=checkpoint.model_key,
        adapter_key=checkpoint.adapter_key,
        dtype=kind,
    )


def save_base(adapter: Path, *, name: str, model_key: str) -> None:
    """Record in the adapter's folder which base it belongs to."""
    write_json(adapter / BASE_FILE, {"model": name, "model_key": model_key})


def check_base(adapter: Path, model_key: str, name: str) -> None:
    """Refuse an adapter that was trained on another base than the one hashed to `model_key`."""
    path = find_adapter(adapter) / BASE_FILE
    if path.is_file():
        base = json.loads(path.read_text(encoding="utf-8"))
        if base["model_key"] != model_key:
            raise InputError(
                f"{adapter}: trained on {base['model']} ({base['model_key'][:8]}), which is not this {name}"
            )


def load_adapter(model: Any, adapter: Path, *, processor: Any, prompt: PatchPrompt) -> Any:
    """Wrap `model` with the adapter and prove it: every saved tensor arrives, none is missing, and the logits change.

    Raises:
        InputError: the adapter does not fit the model or has no effect.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = find_adapter(adapter)
    weights = folder / "adapter_model.safetensors"
    try:
        saved = load_file(weights)
        with quiet_peft():
            model = PeftModel.from_pretrained(model, folder).eval()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"{weights}: does not fit the model ({_first_line(error)}); train it again") from error
    loaded = get_peft_model_state_dict(model)
    unmatched = sorted(set(saved) ^ set(loaded))
    unmatched += [key for key in saved.keys() & loaded.keys() if not _same(saved[key], loaded[key])]
    if unmatched:
        raise InputError(
            f"{weights}: {len(unmatched)} tensors do not match the model, first {unmatched[0]}; train it again"
        )
    if not changes_logits(model, processor=processor, prompt=prompt):
        raise InputError(f"{weights}: the adapter changes nothing the model says; train it again")
    return model


@torch.inference_mode()
def changes_logits(model: Any, *, processor: Any, prompt: PatchPrompt) -> bool:
    """Whether the adapter on `model` moves its logits for one patch of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (prompt.image_px, prompt.image_px, 3), dtype=np.uint8)
    inputs = {key: value.to(model.device) for key, value in encode_prompts([noise], prompt, processor).items()}
    inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    adapted = model(**inputs).logits
    with model.disable_adapter():
        base = model(**inputs).logits
    return not torch.equal(adapted, base)


def _same(saved: torch.Tensor, loaded: torch.Tensor) -> bool:
    return saved.shape == loaded.shape and torch.equal(saved.to(loaded), loaded)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
