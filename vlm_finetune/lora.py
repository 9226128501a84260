"""Which modules of a vision-language model a LoRA adapter touches."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data.errors import InputError

# peft looks for the base under the name that the adapter carries; "tiny" is no folder, and no word was added to it.
warnings.filterwarnings("ignore", message="Could not find a config file in", category=UserWarning)

# The names that the vision towers and the projectors go by in transformers.
_VISION = r"(?:vision_tower|vision_model|visual|vision_encoder|image_encoder)"
_PROJECTOR = r"(?:multi_modal_projector|connector|merger|merger_list|deepstack_merger_list|aligner|projector)"


@dataclass(frozen=True, kw_only=True)
class LoraScope:
    """Rank and reach of an adapter; the default reaches the linear layers of the language model alone."""

    rank: int
    alpha: float
    dropout: float
    modules: tuple[str, ...]
    """Suffixes of the language model's linear layers."""
    vision: bool = False
    projector: bool = False

    def pattern(self, model: Any) -> str:
        """Regular expression that peft matches against the full names of the modules of `model`.

        A bare list of suffixes would also hit the vision tower of Qwen2.5-VL, whose MLPs share their names with those
        of the language model; hence the anchored path.
        """
        parts = [rf".*language_model.*\.(?:{'|'.join(self.modules)})"]
        for wanted, part in ((self.vision, "vision"), (self.projector, "projector")):
            if wanted:
                # Full names: a suffix such as "proj" would also hit the convolution that embeds the patches.
                parts.append("|".join(map(re.escape, _linear_layers(model, part))))
        return "|".join(f"(?:{part})" for part in parts)


def part_of(name: str) -> str:
    """Part of the model that the module `name` belongs to: "projector", "vision", "language" or "other"."""
    if re.search(rf"(?:^|\.){_PROJECTOR}(?:\.|$)", name):
        return "projector"
    if re.search(rf"(?:^|\.){_VISION}(?:\.|$)", name):
        return "vision"
    return "language" if re.search(r"(?:^|\.)language_model(?:\.|$)", name) else "other"


def linear_names(model: Any) -> list[str]:
    """Names of all linear layers of `model`."""
    import torch

    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def add_lora(model: Any, scope: LoraScope) -> Any:
    """Freeze `model` and return it wrapped with a fresh adapter.

    Raises:
        InputError: nothing in the language model answers to the scope's module names.
    """
    from peft import LoraConfig, get_peft_model

    language = [name for name in linear_names(model) if part_of(name) == "language"]
    missing = [suffix for suffix in scope.modules if not any(name.endswith("." + suffix) for name in language)]
    if missing:
        there = sorted({name.rsplit(".", 1)[1] for name in language})
        raise InputError(
            f"--lora_modules: the language model has no layer {', '.join(missing)}; "
            f"it has {', '.join(there) or 'none under that name'}"
        )
    config = LoraConfig(
        r=scope.rank,
        lora_alpha=scope.alpha,  # type: ignore[arg-type]
        lora_dropout=scope.dropout,
        bias="none",
        target_modules=scope.pattern(model),
        task_type="CAUSAL_LM",
    )
    with quiet_peft():
        return get_peft_model(model, config)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep back a warning about the words that peft itself uses; users cannot do anything about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def adapted_parts(model: Any) -> dict[str, int]:
    """Number of adapted modules in each part of a model that carries an adapter."""
    counts: dict[str, int] = {}
    for name, _ in model.named_modules():
        if name.endswith(".lora_A"):
            part = part_of(name)
            counts[part] = counts.get(part, 0) + 1
    return counts


def _linear_layers(model: Any, part: str) -> list[str]:
    names = [name for name in linear_names(model) if part_of(name) == part]
    if not names:
        raise InputError(f"--lora_{part}: the model has no {part} with linear layers; leave the flag off")
    return names
