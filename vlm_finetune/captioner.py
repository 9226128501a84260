"""A loaded model that describes patches, any number of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.atomic import digest
from data.out_of_memory import run_in_batches
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.batch_size import fitting_batch
from vlm_finetune.continuous_batch import ContinuousBatch
from vlm_finetune.continuous_check import can_run_continuously
from vlm_finetune.decoding import Caption, Decoding, Request
from vlm_finetune.describer import Describer
from vlm_finetune.generate import generate
from vlm_finetune.image_embeddings import embed_images
from vlm_finetune.model import LoadedModel, find_checkpoint, load
from vlm_finetune.prompt import PatchPrompt

__all__ = ["Caption", "Captioner", "Decoding"]


class Captioner(Describer):
    """Describes patches with a model and, usually, an adapter.

    Args:
        model: "tiny", a folder or a hub name that is in the local cache.
        adapter: output folder of `finetune` or the adapter folder in it; None for the model as it is.
        prompt: what to ask; None takes the adapter's prompt, or the default one without an adapter.
        taxonomy: fills `{tissue}` in the default prompt.
        decoding: greedy by default.
        batch_size: patches described at once; 0 for as many as memory seems to allow. Halves where it runs out.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        beside: names anything else that decides the text, for `key`.
        remote_code: let code run that comes with the model.

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
        batch_size: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        beside: str = "",
        remote_code: bool = False,
    ) -> None:
        default = PatchPrompt.default(taxonomy or load_taxonomy())
        checkpoint = find_checkpoint(
            model, prompt=prompt, default_prompt=default, adapter=adapter, remote_code=remote_code
        )
        loaded = load(checkpoint, device=device, dtype=dtype)
        self.loaded = _merged(loaded)
        self.prompt = loaded.prompt
        self.decoding = decoding or Decoding()
        self.key = digest(
            self.prompt.key, loaded.model_key, loaded.adapter_key, str(loaded.dtype), self.decoding.key, beside
        )
        limit = self.decoding.max_new_tokens
        self.batch_size = batch_size or fitting_batch(loaded.model, max_new_tokens=limit)
        self.rows: ContinuousBatch[Any] | None = None
        """None for a model whose rows cannot leave a batch one by one."""
        if can_run_continuously(self.loaded):
            self.rows = ContinuousBatch(
                self.loaded.model, loaded.processor, self.prompt, max_new_tokens=limit, size=self.batch_size
            )

    def write(self, requests: Iterator[Request[Any]]) -> Iterator[tuple[Request[Any], Caption]]:
        """Texts of `requests`, as they end."""
        return self._in_batches(requests) if self.rows is None else self.rows.run(requests)

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """What the vision tower makes of `images`, float32 (N, D)."""
        return embed_images(self.loaded, images)

    def _in_batches(self, requests: Iterator[Request[Any]]) -> Iterator[tuple[Request[Any], Caption]]:
        loaded = self.loaded
        while some := list(islice(requests, self.batch_size)):
            for decoding in {request.decoding: None for request in some}:
                alike = [request for request in some if request.decoding == decoding]
                describe = partial(generate, loaded.model, loaded.processor, self.prompt, decoding=decoding)
                images = [request.image for request in alike]
                batches, self.batch_size = run_in_batches(describe, images, size=self.batch_size, name="captioning")
                yield from zip(alike, (caption for batch in batches for caption in batch), strict=True)


def _merged(loaded: LoadedModel) -> LoadedModel:
    """`loaded` with its adapter added to the weights, where they are fine enough to hold it: a third less work."""
    if not loaded.adapter_key or loaded.dtype != torch.float32:
        return loaded
    return replace(loaded, model=loaded.model.merge_and_unload())
