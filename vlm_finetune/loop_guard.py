"""End a text that says the same words over and over: it would only fill the limit."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria

_LONGEST = 16
_FEWEST = 16
_EVERY = 8


class LoopGuard(StoppingCriteria):
    """Ends the rows whose last tokens are one stretch of up to 16, `max_repeats` times in a row and 16 tokens or more.

    It looks at every eighth token of each row, so that what it does to a row does not depend on the others.

    Args:
        start: tokens of the prompt, which all rows have in common.
        ends: tokens that end a text; what follows them is padding.
    """

    def __init__(self, start: int, *, max_repeats: int, ends: Sequence[int]) -> None:
        self.start = start
        self.ends = torch.tensor(ends)
        self.max_repeats = max_repeats
        self.kept: dict[int, int] = {}
        """Tokens of each row that was ended, up to where its repetition begins."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **settings: Any) -> torch.Tensor:
        """Which rows (N,) are to end; called by `generate` after each token."""
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        written = input_ids.shape[1] - self.start
        if written % _EVERY:
            return done
        ended = torch.isin(input_ids[:, self.start :], self.ends.to(input_ids.device)).any(1)
        for period in range(1, _LONGEST + 1):
            repeats = max(self.max_repeats, -(-_FEWEST // period)) + 1
            if repeats * period > written:
                continue
            tail = input_ids[:, -repeats * period :].reshape(len(input_ids), repeats, period)
            loops = (tail == tail[:, :1]).flatten(1).all(1) & ~ended
            for row in loops.nonzero().flatten().tolist():
                self.kept.setdefault(row, written - (repeats - 1) * period)
            done |= loops
        return done
