"""How training text is made wrong, so that the fusion learns when not to trust it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TextNoise:
    """Shares of the training rows, each row having one fate at most."""

    dropout: float = 0.0
    """Without text."""
    swap_within: float = 0.0
    """With the text of another row of its class."""
    swap_across: float = 0.0
    """With the text of a row of another class."""
    cut: float = 0.0
    """With words left out, half of these rows anywhere and half at the end, any share of the words."""

    @property
    def total(self) -> float:
        """Share of the rows whose text is not their own whole one."""
        return self.dropout + self.swap_within + self.swap_across + self.cut


@dataclass(frozen=True)
class RowTexts:
    """The text of each of N training rows in one epoch."""

    source: np.ndarray
    """(N,) position of the row whose text is used; -1 for none."""
    kept: np.ndarray
    """(N,) share of the words that are kept, 1 for all."""
    from_start: np.ndarray
    """(N,) bool: whether what is kept is the beginning; else it is drawn."""
    seed: np.ndarray
    """(N,) of that draw."""

    def tokens(self, row: int, ids: list[int]) -> list[int]:
        """What is left of the tokens `ids` of the text of `row`; the first and last one, which frame it, stay."""
        share = float(self.kept[row])
        if share >= 1:
            return ids
        inner = ids[1:-1]
        if self.from_start[row]:
            return [*ids[:1], *inner[: round(share * len(inner))], *ids[-1:]]
        stay = np.random.default_rng(self.seed[row]).random(len(inner)) < share
        return [*ids[:1], *(one for one, kept in zip(inner, stay, strict=True) if kept), *ids[-1:]]


def draw_texts(labels: np.ndarray, noise: TextNoise, numbers: np.random.Generator) -> RowTexts:
    """Draw the fate of the text of every row, `labels` (N,) their classes.

    A row without another to swap with keeps its own text.
    """
    rows = len(labels)
    source = np.arange(rows)
    fate = numbers.random(rows)
    bounds = np.cumsum([noise.dropout, noise.swap_within, noise.swap_across, noise.cut])
    kind = np.searchsorted(bounds, fate, side="right")  # 0 to 3 in the order of the shares, 4 for none
    source[kind == 0] = -1
    by_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    for row in np.flatnonzero((kind == 1) | (kind == 2)):
        pools = [pool for label, pool in by_class.items() if (label == labels[row]) == (kind[row] == 1)]
        if pools:
            pool = np.concatenate(pools)
            source[row] = pool[numbers.integers(len(pool))]
    kept = np.where(kind == 3, numbers.random(rows), 1.0)
    return RowTexts(source, kept, numbers.random(rows) < 0.5, numbers.integers(2**31, size=rows))
