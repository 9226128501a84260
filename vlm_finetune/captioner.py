"""A loaded model that describes patches in batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.atomic import digest
from data.out_of_memory import run_in_batches
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.config import IMAGE_PX, QUESTION, SYSTEM
from vlm_finetune.generate import Caption, Decoding, generate
from vlm_finetune.model import load
from vlm_finetune.prompt import PatchPrompt

__all__ = ["Caption", "Captioner", "Decoding"]


class Captioner:
    """Describes patches with a model and, usually, an adapter.

    Args:
        model: "tiny", a folder or a hub name that is in the local cache.
        adapter: output folder of `finetune` or the adapter folder in it; None for the model as it is.
        prompt: what to ask; None takes the adapter's prompt, or the default one without an adapter.
        taxonomy: fills `{tissue}` in the default prompt.
        decoding: greedy by default.
        batch_size: patches described at once; halves where memory runs out.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".

    Raises:
        InputError: model, adapter or device missing, or not fitting each other or the prompt.
    """

    def __init__(
        self,
        *,
        model: str,
        adapter: Path | None = None,
        prompt: PatchPrompt | None = None,
        taxonomy: Taxonomy | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 64,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        default = PatchPrompt.fill(
            system=SYSTEM, question=QUESTION, image_px=IMAGE_PX, taxonomy=taxonomy or load_taxonomy()
        )
        self.loaded = load(model, prompt=prompt, default_prompt=default, adapter=adapter, device=device, dtype=dtype)
        self.prompt = self.loaded.prompt
        self.decoding = decoding or Decoding()
        self.batch_size = batch_size
        loaded = self.loaded
        self.key = digest(self.prompt.key, loaded.model_key, loaded.adapter_key, str(loaded.dtype), self.decoding.key)

    def describe(self, images: Sequence[np.ndarray]) -> list[Caption]:
        """Captions of `images` (RGB uint8 (H, W, 3), any size), in their order, whatever the batches."""
        loaded = self.loaded
        batches, self.batch_size = run_in_batches(
            lambda some: generate(loaded.model, loaded.processor, self.prompt, some, self.decoding),
            images,
            size=self.batch_size,
            name="captioning",
        )
        return [caption for batch in batches for caption in batch]

    def row_key(self, image: np.ndarray) -> str:
        """Hash of all that decides the caption of `image`: pixels, prompt, model, adapter, data type, decoding."""
        return digest(self.key, str(image.shape), np.ascontiguousarray(image).tobytes())
