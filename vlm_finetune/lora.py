"""Which modules of a vision-language model a LoRA adapter touches."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from data.errors import InputError
from vlm_finetune.parts import ModelParts, linear_names

# peft looks for the base under the name that the adapter carries; "tiny" is no folder, and no word was added to it.
warnings.filterwarnings("ignore", message="Could not find a config file in", category=UserWarning)


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
    vision_rank: int | None = None
    """Rank in the vision tower; None for `rank`."""
    projector_rank: int | None = None
    """Rank in the projector; None for `rank`."""
    variant: Literal["lora", "dora", "rslora"] = "lora"

    def ranks(self, model: Any) -> dict[str, int]:
        """Full name of every module of `model` whose rank is not `rank`, as a regular expression, to its rank."""
        wanted = (("vision", self.vision, self.vision_rank), ("projector", self.projector, self.projector_rank))
        return {
            re.escape(name): rank
            for part, adapted, rank in wanted
            if adapted and rank is not None
            for name in _linear_layers(model, part)
        }

    def pattern(self, model: Any) -> str:
        """Regular expression that peft matches against the full names of the modules of `model`.

        A bare list of suffixes would also hit the vision tower of Qwen2.5-VL, whose MLPs share their names with those
        of the language model; hence the anchored path.

        Raises:
            InputError: a part that is asked for has no linear layers.
        """
        language = re.escape(ModelParts.of(model).language)
        parts = [rf"{language}\.(?:.*\.)?(?:{'|'.join(map(re.escape, self.modules))})"]
        for wanted, part in ((self.vision, "vision"), (self.projector, "projector")):
            if wanted:
                # Full names: a suffix such as "proj" would also hit the convolution that embeds the patches.
                parts.append("|".join(map(re.escape, _linear_layers(model, part))))
        return "|".join(f"(?:{part})" for part in parts)


def add_lora(model: Any, scope: LoraScope) -> Any:
    """Freeze `model` and return it wrapped with a fresh adapter.

    Raises:
        InputError: nothing in the language model answers to the scope's module names.
    """
    from peft import LoraConfig, get_peft_model

    language = _linear_layers(model, "language")
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
        rank_pattern=scope.ranks(model),
        use_dora=scope.variant == "dora",
        use_rslora=scope.variant == "rslora",
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
    parts, suffix = ModelParts.of(model), ".lora_A"
    names = [name for name, _ in model.get_base_model().named_modules() if name.endswith(suffix)]
    return dict(Counter(parts.part_of(name.removesuffix(suffix)) for name in names))


def _linear_layers(model: Any, part: str) -> list[str]:
    parts = ModelParts.of(model)
    names = [name for name in linear_names(model) if parts.part_of(name) == part]
    if not names:
        flag = "" if part == "language" else f"; leave --lora_{part} off"
        raise InputError(f"{type(model).__name__}: its {part} part has no linear layers for LoRA{flag}")
    return names
