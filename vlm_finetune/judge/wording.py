"""How captions read: empty, repetitive, long, or giving the class away."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.leakage import ClassNames
from data.taxonomy import Taxonomy
from vlm_finetune.judge.rows import JudgedRow

_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_SENTENCE_END = re.compile(r"[.!?;\n]+(?=\s|$)")
_REPEATED_WORDS = 4


@dataclass(frozen=True)
class Wording:
    """Figures over the captions that have words; None where none has."""

    repeated_sentence: float | None
    """Share with a sentence that occurs twice in it."""
    repeated_4gram: float | None
    """Share with four words in a row that occur twice in it."""
    repeated: float | None
    """Share with either."""
    distinct_1: float | None
    """Different words over all words (Li et al. 2016)."""
    distinct_2: float | None
    """Different pairs of neighbouring words over all pairs."""
    distinct_texts: float | None
    """Different captions over all captions."""
    words: dict[str, float] | None
    """Mean, median, shortest and longest, in words."""
    tokens: dict[str, float] | None
    """The same in tokens of the model."""
    names_class: float | None
    """Share that name a class outright."""
    names_true_class: float | None
    """Share that name the class of their patch."""


def measure_wording(rows: Sequence[JudgedRow], taxonomy: Taxonomy) -> Wording:
    """Measure the captions of `rows` that have any text."""
    rows = [row for row in rows if row.text]
    words = [split_words(row.text) for row in rows]
    twice = np.array([_repeats_sentence(row.text) for row in rows], dtype=bool)
    fourfold = np.array([_repeats(_grams(one, _REPEATED_WORDS)) for one in words], dtype=bool)
    names = ClassNames(taxonomy)
    named = [set(names.mask(row.text).named) for row in rows]
    return Wording(
        repeated_sentence=_mean(twice),
        repeated_4gram=_mean(fourfold),
        repeated=_mean(twice | fourfold),
        distinct_1=_distinct([gram for one in words for gram in _grams(one, 1)]),
        distinct_2=_distinct([gram for one in words for gram in _grams(one, 2)]),
        distinct_texts=_distinct([row.text for row in rows]),
        words=_lengths([len(one) for one in words]),
        tokens=_lengths([row.tokens for row in rows]),
        names_class=_mean(np.array([bool(one) for one in named])),
        names_true_class=_mean(np.array([row.label in one for row, one in zip(rows, named, strict=True)])),
    )


def split_words(text: str) -> list[str]:
    """Words of `text` in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def _repeats_sentence(text: str) -> bool:
    return _repeats([words for part in _SENTENCE_END.split(text) if (words := tuple(split_words(part)))])


def _grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _repeats(parts: Sequence[tuple[str, ...]]) -> bool:
    return max(Counter(parts).values(), default=0) > 1


def _distinct(parts: Sequence[object]) -> float | None:
    return len(set(parts)) / len(parts) if parts else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _lengths(lengths: Sequence[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    return {
        "mean": float(np.mean(lengths)),
        "median": float(np.median(lengths)),
        "shortest": float(min(lengths)),
        "longest": float(max(lengths)),
    }
