"""What is asked of the model about a patch: one object for training and captioning, known by its hash."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import digest, write_json
from data.errors import InputError
from data.taxonomy import Taxonomy
from vlm_finetune.config import IMAGE_PX, QUESTION, SYSTEM

PROMPT_FILE = "prompt.json"


@dataclass(frozen=True, kw_only=True)
class PatchPrompt:
    """A conversation about one patch: system message, then the image, then the question."""

    system: str
    """System message; empty for none."""
    question: str
    """Question about the patch, `{tissue}` already replaced."""
    image_px: int
    """Every patch is resized to this many pixels on a side before the model's own processor sees it."""

    @classmethod
    def fill(cls, *, system: str, question: str, image_px: int, taxonomy: Taxonomy) -> "PatchPrompt":
        """Prompt with `{tissue}` in `system` and `question` replaced by the tissue of `taxonomy`."""
        if not question.strip():
            raise InputError("--question is empty; say what the model is to describe")
        if image_px < 28:
            raise InputError(f"--image_px {image_px} is too small for a vision tower; give 28 or more")
        return cls(
            system=system.replace("{tissue}", taxonomy.tissue),
            question=question.replace("{tissue}", taxonomy.tissue),
            image_px=image_px,
        )

    @classmethod
    def default(cls, taxonomy: Taxonomy) -> "PatchPrompt":
        """Prompt of a model that was not fine-tuned, where nothing else is asked for."""
        return cls.fill(system=SYSTEM, question=QUESTION, image_px=IMAGE_PX, taxonomy=taxonomy)

    @classmethod
    def load(cls, folder: Path) -> "PatchPrompt":
        """Prompt saved in `folder` by `save`."""
        path = folder / PROMPT_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: missing; train the adapter with `mmlnb finetune`, which saves its prompt"
            ) from error
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: not a saved prompt ({error}); restore it or train the adapter again") from error

    def save(self, folder: Path) -> Path:
        """Write prompt.json into `folder`."""
        write_json(folder / PROMPT_FILE, asdict(self))
        return folder / PROMPT_FILE

    @cached_property
    def key(self) -> str:
        """Hash of everything the model is asked; the order image before question is part of it."""
        return digest("image-first", self.system, self.question, str(self.image_px))

    def messages(self, answer: str | None = None) -> list[dict[str, Any]]:
        """Conversation as chat templates take it, the image a placeholder; with `answer`, the model's turn too."""
        turns: list[dict[str, Any]] = []
        if self.system:
            turns.append({"role": "system", "content": [{"type": "text", "text": self.system}]})
        turns.append({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.question}]})
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return turns

    def resize(self, image: np.ndarray) -> np.ndarray:
        """RGB uint8 (H, W, 3) to (image_px, image_px, 3), low-pass filtered before it is made smaller."""
        from PIL import Image

        if image.shape[:2] == (self.image_px, self.image_px):
            return image
        # Pillow's filters widen with the reduction, so that nuclei do not alias.
        resized = Image.fromarray(image).resize((self.image_px, self.image_px), Image.Resampling.BICUBIC)
        return np.asarray(resized)
