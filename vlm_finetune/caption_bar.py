"""Progress of captioning as one bar: patches and tokens per second, time left, failures so far."""

import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from vlm_finetune.caption_parts import PartWriter


class CaptionBar:
    """Bar over the `total` rows of one process, `shown` or not."""

    def __init__(self, *, total: int, shown: bool) -> None:
        self._bar: tqdm[Any] = tqdm(total=total, desc="caption", unit="patch", disable=not shown)
        self._skipped = 0
        self._started = time.monotonic()

    def __enter__(self) -> "CaptionBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def skip(self) -> None:
        """Count a row that an earlier run has described; it says nothing about the speed."""
        self._skipped += 1
        self._bar.initial += 1
        self._bar.update()

    def show(self, parts: PartWriter) -> None:
        """Show how far `parts` has come."""
        rate = parts.tokens / (time.monotonic() - self._started)
        self._bar.set_postfix(failed=parts.failed, tokens_per_s=round(rate), refresh=False)
        self._bar.update(parts.count + self._skipped - self._bar.n)
