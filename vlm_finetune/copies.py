"""Describe equal pixels once: their other rows get the same text."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from vlm_finetune.caption_row import CaptionRow
from vlm_finetune.patch_source import Patch

_REMEMBERED = 65_536


class Copies:
    """Finds rows that share their key with one of the last 65,536 that were described, which bounds the memory.

    Args:
        write: takes in every row: those that were described, and copies of them.
    """

    def __init__(self, write: Callable[[CaptionRow], None]) -> None:
        self.write = write
        self.saved = 0
        """Rows that were not described again."""
        self._known: OrderedDict[str, CaptionRow] = OrderedDict()
        self._waiting: dict[str, list[Patch]] = {}
        """Copies of what is being described, by its key."""

    def fresh(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """Those of `patches` that are to be described; the others get their text as soon as it is there."""
        for patch in patches:
            if self.follow(patch, patch.key):
                continue
            self._waiting[patch.key] = []
            yield patch

    def follow(self, patch: Patch, key: str) -> bool:
        """Give `patch` the text of the row with `key`, now or later; False where there is none."""
        if key in self._known:
            self._copy(self._known[key], patch)
        elif key in self._waiting:
            self._waiting[key].append(patch)
        else:
            return False
        return True

    def described(self, row: CaptionRow) -> None:
        """Write `row`, and those of the patches that were waiting for its text."""
        self.write(row)
        self._known[row.key] = row
        for patch in self._waiting.pop(row.key):
            self._copy(row, patch)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _copy(self, row: CaptionRow, patch: Patch) -> None:
        self.saved += 1
        self.write(replace(row, patch_id=patch.patch_id, key=patch.key, copy_of=row.patch_id))
