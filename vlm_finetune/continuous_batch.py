"""Continuous batching: a row leaves as its text ends and another patch takes its place."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor

from data.errors import InputError
from data.out_of_memory import give_back, is_out_of_memory
from vlm_finetune.decoding import CUT, LOOP, Caption, Request
from vlm_finetune.generate import end_ids
from vlm_finetune.loop_guard import loop_start
from vlm_finetune.parts import base_of
from vlm_finetune.prompt import PatchPrompt
from vlm_finetune.prompt_encoder import PromptEncoder
from vlm_finetune.sampling import gumbel_noise, row_generator, warpers
from vlm_finetune.slot_cache import SlotCache

Item = TypeVar("Item")
# Rows are taken in by this share of the batch, so that no more of it lies idle.
_SHARE = 8


@dataclass
class _Row(Generic[Item]):
    """A text that is being written."""

    request: Request[Item]
    generator: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True)
class _Chunk(Generic[Item]):
    """Patches that are taken in together; their images are preprocessed ahead."""

    requests: list[Request[Item]]
    images: "Future[dict[str, torch.Tensor]]"


class ContinuousBatch(Generic[Item]):
    """Describes any number of patches, so many of them at a time.

    What comes ahead of the image is the same for all patches and computed once. A text does not depend on the rows
    beside it.

    Args:
        model: in eval mode, with or without an adapter; its attention reaches over the whole text.
        processor: of the model.
        prompt: asked about every patch.
        max_new_tokens: limit of every text.
        size: texts that are written at a time; halves where memory runs out.
    """

    def __init__(self, model: Any, processor: Any, prompt: PatchPrompt, *, max_new_tokens: int, size: int) -> None:
        self.model = model
        self.size = size
        self.tokenizer = processor.tokenizer
        self.encoder = PromptEncoder(prompt, processor)
        self.ends = frozenset(end_ids(model, processor, prompt))
        self.room = self.encoder.length + max_new_tokens
        self.positions = self._prompt_positions()
        self.prefix = self._prefix()
        layers = base_of(model).config.get_text_config(decoder=True).num_hidden_layers
        self.cache = SlotCache(layers, size=size, room=self.room)
        self.rows: list[_Row[Item]] = []
        """Of each slot in use."""

    @torch.inference_mode()
    def run(self, requests: Iterable[Request[Item]]) -> Iterator[tuple[Request[Item], Caption]]:
        """Texts of `requests`, in the order in which they end; those that are sampled share their temperature.

        Raises:
            InputError: memory does not suffice for one patch.
        """
        source = iter(requests)
        chunk: _Chunk[Item] | None = None
        self._clear()
        with ThreadPoolExecutor(1) as pool:
            while True:
                chunk = chunk or self._fetch(source, pool, count=max(1, self.size // _SHARE))
                active = [row for row in self.rows if not row.ended]
                if chunk is None and not active:
                    return
                ended: list[_Row[Item]] = []
                exhausted = False
                try:
                    if chunk is not None and self.size - len(active) >= len(chunk.requests):
                        ended = self._take_in(chunk)
                        chunk = None
                    else:
                        ended = self._step()
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    if self.size == 1:
                        raise InputError(
                            "captioning: out of memory with one patch at a time; use a device with more"
                        ) from error
                    exhausted = True
                if exhausted:
                    # Outside the handler, which holds the frames and so the memory of the attempt.
                    again = [*(row.request for row in active), *(chunk.requests if chunk is not None else [])]
                    source, chunk = chain(again, source), None
                    self.size = max(1, min(self.size, len(again)) // 2)
                    self._clear()
                    give_back()
                for row in ended:
                    yield row.request, self._caption(row)

    def _clear(self) -> None:
        """Begin with empty slots."""
        self.rows = []
        if self.size != self.cache.size:
            self.cache = SlotCache(len(self.cache.layers), size=self.size, room=self.room)

    def _fetch(self, source: Iterator[Request[Item]], pool: ThreadPoolExecutor, *, count: int) -> _Chunk[Item] | None:
        requests = list(islice(source, count))
        if not requests:
            return None
        return _Chunk(requests, pool.submit(self.encoder.images, [request.image for request in requests]))

    def _take_in(self, chunk: _Chunk[Item]) -> list[_Row[Item]]:
        """Read the prompts of `chunk` into slots that are free, and write the first token of each."""
        images = {key: self._to_model(value) for key, value in chunk.images.result().items()}
        count = len(chunk.requests)
        prompts = DynamicCache()
        for index, layer in enumerate(self.prefix.layers):
            prompts.update(layer.keys.expand(count, -1, -1, -1), layer.values.expand(count, -1, -1, -1), index)
        scores = self._read_prompt(prompts, count=count, start=self.encoder.before_image, images=images)
        free = [slot for slot, row in enumerate(self.rows) if row.ended]
        slots = [*free, *range(len(self.rows), len(self.rows) + count)][:count]
        self.cache.put(slots, prompts)
        rows = [_Row(request, row_generator(request.image, request.decoding)) for request in chunk.requests]
        ended = self._write(rows, scores)
        self.rows += rows[: max(0, max(slots) + 1 - len(self.rows))]
        for slot, row in zip(slots, rows, strict=True):
            self.rows[slot] = row
        return ended

    def _step(self) -> list[_Row[Item]]:
        """Write one more token of every row."""
        going = [slot for slot, row in enumerate(self.rows) if not row.ended]
        # The latest token of a row has yet to be read; what becomes of rows that have ended is of no matter.
        lengths = [min(self.encoder.length + len(row.tokens), self.room) - 1 for row in self.rows]
        longest = max(lengths[slot] for slot in going)
        if 2 * len(going) <= len(self.rows):
            self.cache.keep(going, length=longest)
            self.rows, lengths = [self.rows[slot] for slot in going], [lengths[slot] for slot in going]
            going = list(range(len(going)))
        filled = torch.tensor(lengths)[:, None]
        self.cache.expect(self._to_model(filled[:, 0]), longest=longest)
        mask = None
        if any(lengths[slot] < longest for slot in going):
            mask = self._to_model((torch.arange(longest + 1)[None] <= filled).long())
        output = self.model(
            input_ids=self._to_model(torch.tensor([row.tokens[-1:] for row in self.rows])),
            position_ids=self._to_model(int(self.positions.max()) + 1 + filled - self.encoder.length),
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        )
        return self._write(self.rows, output.logits[:, -1])

    def _write(self, rows: Sequence[_Row[Item]], scores: torch.Tensor) -> list[_Row[Item]]:
        """Add a token to each of `rows` that has not ended, from `scores` (N, V), and return those that now have."""
        scores = scores.float()
        chosen = self._choose(rows, scores)
        logprobs = scores.gather(1, chosen[:, None]).squeeze(1) - scores.logsumexp(-1)
        ended = []
        for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist(), strict=True):
            if row.ended:
                continue
            row.tokens.append(token)
            row.logprobs.append(logprob)
            decoding = row.request.decoding
            row.ended = (
                token in self.ends
                or len(row.tokens) == decoding.max_new_tokens
                or loop_start(row.tokens, max_repeats=decoding.max_repeats) is not None
            )
            if row.ended:
                ended.append(row)
        return ended

    def _choose(self, rows: Sequence[_Row[Item]], scores: torch.Tensor) -> torch.Tensor:
        """Next token (N,) of each row."""
        penalty = rows[0].request.decoding.repetition_penalty
        if penalty != 1.0 and rows[0].tokens:
            # A token that occurs twice is no worse than one that occurs once, so that any of them fills up a row.
            longest = max(len(row.tokens) for row in rows)
            written = [row.tokens + row.tokens[-1:] * (longest - len(row.tokens)) for row in rows]
            scores = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor(written, device=scores.device), scores)
        drawn = [(index, row.generator) for index, row in enumerate(rows) if row.generator is not None]
        if drawn:
            indices = [index for index, _ in drawn]
            some = scores[indices]
            for warper in warpers(rows[indices[0]].request.decoding):
                some = warper(None, some)
            scores = scores.clone()
            scores[indices] = some + gumbel_noise([generator for _, generator in drawn], some)
        return scores.argmax(-1)

    def _caption(self, row: _Row[Item]) -> Caption:
        tokens, flags = row.tokens, tuple[str, ...]()
        kept = loop_start(tokens, max_repeats=row.request.decoding.max_repeats)
        if tokens[-1] not in self.ends:
            flags = (CUT,) if kept is None else (LOOP,)
            tokens = tokens[:kept]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        mean = sum(row.logprobs[: len(tokens)]) / len(tokens)
        return Caption(text, len(tokens), mean, error=None if text else "the model wrote nothing", flags=flags)

    def _read_prompt(
        self,
        cache: DynamicCache,
        *,
        count: int,
        start: int = 0,
        end: int | None = None,
        images: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Read the prompt from `start` to `end` behind what `cache` holds; scores (count, V) of the next token."""
        tokens = {key: value[:, start:end] for key, value in self.encoder.tokens.items() if key != "attention_mask"}
        output = self.model(
            **{key: self._to_model(value.expand(count, -1)) for key, value in tokens.items()},
            **(images or {}),
            position_ids=self._to_model(self.positions[..., start:end].expand(*self.positions.shape[:-2], count, -1)),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    @torch.inference_mode()
    def _prefix(self) -> Any:
        """Keys and values of what comes ahead of the image."""
        cache = DynamicCache()
        if self.encoder.before_image:
            self._read_prompt(cache, count=1, end=self.encoder.before_image)
        return cache

    def _prompt_positions(self) -> torch.Tensor:
        """Positions (1, L) of the prompt's tokens, or (3, 1, L) where an image has them in time, height and width."""
        inner = base_of(self.model).base_model
        if not hasattr(inner, "get_rope_index"):
            return torch.arange(self.encoder.length)[None]
        images = self.encoder.images([np.zeros((self.encoder.prompt.image_px,) * 2 + (3,), dtype=np.uint8)])
        wanted = inspect.signature(inner.get_rope_index).parameters
        known = {**self.encoder.tokens, **images}
        return inner.get_rope_index(**{key: value for key, value in known.items() if key in wanted})[0]

    def _to_model(self, value: torch.Tensor) -> torch.Tensor:
        value = value.to(self.model.device, non_blocking=True)
        return value.to(self.model.dtype) if value.is_floating_point() else value
