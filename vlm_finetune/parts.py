"""Which part of a vision-language model each of its layers belongs to, as the model itself says."""

import re
from dataclasses import dataclass
from typing import Any

from data.errors import InputError

# Some towers end in the layers that hand their tokens to the language model; these names for them recur.
_PROJECTOR = re.compile(r"(?:^|\.)\w*(?:projector|connector|merger|merger_list|aligner)(?:\.|$)")


@dataclass(frozen=True)
class ModelParts:
    """Paths of the language model and the vision tower within a model."""

    language: str
    vision: str
    head: str | None
    """Path of the layer that turns hidden states into logits."""

    @classmethod
    def of(cls, model: Any) -> "ModelParts":
        """Parts of `model`, with or without an adapter.

        Raises:
            InputError: the model does not tell its language model from its vision tower.
        """
        base = base_of(model)
        names = {id(module): name for name, module in base.named_modules()}
        language = names.get(id(base.get_decoder()), "")
        vision = names.get(id(base.get_encoder(modality="image")), "")
        # Both answer with the model itself, or nothing that it holds, where they do not know.
        if not language or not vision or language == vision:
            raise InputError(
                f"{type(base).__name__}: has no language model and vision tower that can be told apart, "
                "so LoRA cannot be kept to one of them; use another vision-language model"
            )
        return cls(language, vision, names.get(id(base.get_output_embeddings())))

    def part_of(self, name: str) -> str:
        """Part that the layer `name` of the model without an adapter belongs to.

        "language", "vision", "projector" (what lies between the two, be it the end of the tower) or "head".
        """
        if _within(name, self.language):
            return "language"
        if self.head is not None and _within(name, self.head):
            return "head"
        if _within(name, self.vision) and not _PROJECTOR.search(name.removeprefix(self.vision)):
            return "vision"
        return "projector"


def base_of(model: Any) -> Any:
    """`model` without the adapter that it may carry."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def linear_names(model: Any) -> list[str]:
    """Names of all linear layers of `model`, which carries no adapter."""
    import torch

    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def _within(name: str, path: str) -> bool:
    return name == path or name.startswith(path + ".")
