"""End a text that says the same words over and over: it would only fill the limit."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria

_LONGEST = 16
_FEWEST = 16
_EVERY = 8


def loop_start(tokens: Sequence[int], *, max_repeats: int) -> int | None:
    """Number of tokens up to where a repetition at the end of `tokens` begins; None where there is none.

    A repetition is one stretch of up to 16 tokens more than `max_repeats` times in a row, and 16 tokens or more. It is
    looked for at every eighth token only.
    """
    if not max_repeats or len(tokens) % _EVERY:
        return None
    for period in range(1, _LONGEST + 1):
        repeats = max(max_repeats, -(-_FEWEST // period)) + 1
        tail = tokens[-repeats * period :]
        if len(tail) == repeats * period and tail[period:] == tail[:-period]:
            return len(tokens) - (repeats - 1) * period
    return None


class LoopGuard(StoppingCriteria):
    """Ends the rows that repeat themselves; what it does to a row does not depend on the others.

    Args:
        start: tokens of the prompt, which all rows have in common.
        ends: tokens that end a text; what follows them is padding.
    """

    def __init__(self, start: int, *, max_repeats: int, ends: Sequence[int]) -> None:
        self.start = start
        self.ends = frozenset(ends)
        self.max_repeats = max_repeats
        self.kept: dict[int, int] = {}
        """Tokens of each row that was ended, up to where its repetition begins."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **settings: Any) -> torch.Tensor:
        """Which rows (N,) are to end; called by `generate` after each token."""
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if (input_ids.shape[1] - self.start) % _EVERY:
            return done
        for row, tokens in enumerate(input_ids[:, self.start :].tolist()):
            kept = None if self.ends & set(tokens) else loop_start(tokens, max_repeats=self.max_repeats)
            if kept is not None:
                self.kept.setdefault(row, kept)
                done[row] = True
        return done
