"""Merge an adapter into its base, prove that the merged model says the same, and push it to the hub if asked to."""

import gc
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import atomic_folder, write_json, write_text
from data.devices import choose_device
from data.errors import InputError
from vlm_finetune.export_config import ExportConfig
from vlm_finetune.model_card import public_name
from vlm_finetune.run_folder import MODEL

if TYPE_CHECKING:
    import torch

    from vlm_finetune.parity import Answers, Parity
    from vlm_finetune.prompt import PatchPrompt

PARITY_FILE = "parity.json"


def export_adapter(config: ExportConfig) -> Path:
    """Write the base with the adapter merged into it to `config.out`, with processor, prompt, card and parity.json.

    The merge is done in float32 and saved in the base's data type; what was saved is loaded again and compared.

    Raises:
        InputError: no adapter, its base is missing, the output exists, the merged model says something else than the
            adapter, or the hub cannot be reached.
    """
    if config.push is None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    else:
        _check_push(config.push)
    if config.out.exists():
        raise InputError(f"{config.out}: exists already; choose another --out or remove it")
    from transformers.utils import logging

    from vlm_finetune.model import BASE_FILE, adapter_prompt, check_base, find_adapter, find_model, folder_key

    if (config.adapter / MODEL / "config.json").is_file():
        raise InputError(f"{config.adapter}: trained as a whole, so there is nothing to merge; use {MODEL}/ in it")
    adapter = find_adapter(config.adapter)
    prompt = adapter_prompt(config.adapter)
    name = config.model
    if name is None:
        if not (adapter / BASE_FILE).is_file():
            raise InputError(f"{adapter / BASE_FILE}: missing, so the base is not known; give it as --model")
        name = str(json.loads((adapter / BASE_FILE).read_text(encoding="utf-8"))["model"])
    folder = find_model(name)
    check_base(adapter, folder_key(folder), name)
    logging.set_verbosity_error()
    with atomic_folder(config.out) as out:
        parity = _merge(config, folder, prompt, out)
        print(
            f"parity on {parity.images} images: logits off by {parity.relative_error:.2%} of the adapter's effect (at "
            f"most {parity.largest_difference:.3g}), {parity.differing_captions:.0%} of the descriptions differ"
        )
        _check_parity(parity, config)
        write_json(out / PARITY_FILE, asdict(parity))
        prompt.save(out)
        write_text(out / "README.md", _card(adapter, public_name(name), parity))
    if config.push is not None:
        _push(config.out, config.push)
    return config.out


def _merge(config: ExportConfig, base: Path, prompt: "PatchPrompt", out: Path) -> "Parity":
    """Save the merged model and its processor to `out`; return how far what was saved is from base and adapter."""
    import torch

    from vlm_finetune.model import load_adapter, load_base, load_processor
    from vlm_finetune.parity import compare, noise_images

    device = choose_device(config.device)
    processor = load_processor(base, image_px=prompt.image_px)
    images = noise_images(config.images, side=prompt.image_px, seed=config.seed)
    # All three answer in float32, so that what differs is the weights alone.
    model = load_base(base, dtype=torch.float32).to(device)
    before = _answer(model, processor, prompt, images, config)
    model = load_adapter(model, config.adapter, processor=processor, prompt=prompt)
    adapted = _answer(model, processor, prompt, images, config)
    model = model.merge_and_unload(safe_merge=True)
    model.to(_saved_dtype(base)).save_pretrained(out)
    processor.save_pretrained(out)
    del model
    gc.collect()
    saved = load_base(out, dtype=torch.float32).to(device)
    return compare(merged=_answer(saved, processor, prompt, images, config), adapted=adapted, base=before)


def _answer(model: Any, processor: Any, prompt: "PatchPrompt", images: list[Any], config: ExportConfig) -> "Answers":
    from vlm_finetune.parity import answer

    return answer(model, processor, prompt, images, max_new_tokens=config.max_new_tokens)


def _saved_dtype(folder: Path) -> "torch.dtype":
    """Data type that the model in `folder` was saved in."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).dtype or torch.float32


def _check_parity(parity: "Parity", config: ExportConfig) -> None:
    # Written so that a NaN does not pass.
    if not parity.relative_error <= config.tolerance:
        raise InputError(
            f"{config.adapter}: merged, its logits are off by {parity.relative_error:.2%} of what the adapter changes, "
            f"more than --tolerance {config.tolerance:g}; keep the adapter beside its base, or raise it"
        )
    if not parity.differing_captions <= config.caption_tolerance:
        raise InputError(
            f"{config.adapter}: merged, {parity.differing_captions:.0%} of its descriptions differ, more than "
            f"--caption_tolerance {config.caption_tolerance:g}; keep the adapter beside its base, or raise it"
        )


def _card(adapter: Path, base: str, parity: "Parity") -> str:
    """The adapter's card, with how the merged model was made."""
    path = adapter / "README.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else f"# {base}, fine-tuned\n"
    return (
        card.replace("library_name: peft", "library_name: transformers")
        + f"\n## Merged\n\nThe adapter was merged into `{base}` in float32 and saved in the base's data type. On "
        f"{parity.images} images of noise the logits are off by {parity.relative_error:.2%} of what the adapter "
        f"changes, and {parity.differing_captions:.0%} of the greedy descriptions differ.\n"
    )


def _check_push(name: str) -> None:
    """Refuse what cannot be pushed before anything is computed."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise InputError(f"--push {name}: not a name on the hub; give OWNER/NAME") from error
    if name.count("/") != 1:
        raise InputError(f"--push {name}: not a name on the hub; give OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"--push {name}: HF_HUB_OFFLINE is set, which forbids it; unset it for this command")


def _push(folder: Path, name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(name, private=True, exist_ok=True)
        url = api.upload_folder(repo_id=name, folder_path=folder)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise InputError(
            f"--push {name}: the hub refused ({type(error).__name__}); log in with `hf auth login`; {folder} is kept"
        ) from error
    print(f"pushed to {url}")
