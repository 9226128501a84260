"""Describe equal pixels once: their other rows get the same text."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from vlm_finetune.caption_row import CaptionRow

_REMEMBERED = 65_536


class Keyed(Protocol):
    """A patch with the hash of all that decides its text."""

    @property
    def patch_id(self) -> str: ...
    @property
    def key(self) -> str: ...


Patch = TypeVar("Patch", bound=Keyed)


class Copies:
    """Finds rows that share their key with one of the last 65,536 that were described, which bounds the memory."""

    def __init__(self) -> None:
        self.saved = 0
        """Rows that were not described again."""
        self._known: OrderedDict[str, CaptionRow] = OrderedDict()
        self._waiting: list[Keyed] = []

    def batches(self, patches: Iterable[Patch], size: int) -> Iterator[Sequence[Patch]]:
        """Batches of `size` with no key twice; after each, hand what was written about it to `complete`.

        The last batch is empty where only copies are left.
        """
        batch: dict[str, Patch] = {}
        for patch in patches:
            if patch.key in batch or patch.key in self._known:
                self._waiting.append(patch)
            else:
                batch[patch.key] = patch
            if len(batch) == size or len(self._waiting) >= _REMEMBERED:
                yield list(batch.values())
                batch = {}
        if batch or self._waiting:
            yield list(batch.values())

    def complete(self, rows: Sequence[CaptionRow]) -> list[CaptionRow]:
        """The `rows` of the latest batch, and those of all copies that were put aside before it."""
        self._known.update((row.key, row) for row in rows)
        copied = [replace(self._known[patch.key], patch_id=patch.patch_id) for patch in self._waiting]
        self.saved += len(copied)
        self._waiting.clear()
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return [*rows, *copied]
