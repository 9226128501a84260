"""The sentences of a text as spans of its tokens, which training puts in another order."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fusion.tower import Tokenizer

# What is written behind a full stop that ends nothing ("approx. 30 %", "e.g. rosettes") stays with it.
_END = re.compile(
    r"(?:(?<!\bapprox)(?<!\bca)(?<!\bvs)(?<!\bcf)(?<!\be\.g)(?<!\bi\.e)\.|[!?])+(?=\s)|\n+", re.IGNORECASE
)
_TEXTS_AT_ONCE = 1000


def sentence_bounds(tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Where the sentences of each text begin in its token `ids`, and where the last one ends.

    What the tokenizer cut off has no sentences, and the tokens that frame a text belong to none.
    """
    frame = tokenizer.encode([""])[0]
    found: list[list[int]] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        heads = [[text[: end.end()] for end in _END.finditer(text.rstrip())] for text in some]
        encoded = iter(tokenizer.encode([head for own in heads for head in own]))
        for own, whole in zip(heads, ids[start : start + _TEXTS_AT_ONCE], strict=True):
            first, last = _content(whole, frame)
            # The tokens of a text's beginning are the beginning of its tokens.
            ends = [min(_shared(next(encoded), whole), last) for _ in own]
            found.append(sorted({first, *(end for end in ends if end > first), last}))
    return found


def reorder(ids: list[int], bounds: list[int], seed: int) -> list[int]:
    """Token `ids` with the sentences between `bounds` in the order that `seed` gives; the rest stays in place."""
    if len(bounds) <= 2:
        return ids
    spans = [ids[start:end] for start, end in pairwise(bounds)]
    order = np.random.default_rng(seed).permutation(len(spans))
    return [*ids[: bounds[0]], *(token for place in order for token in spans[place]), *ids[bounds[-1] :]]


def _content(ids: Sequence[int], frame: Sequence[int]) -> tuple[int, int]:
    """Where the words in `ids` begin and end, `frame` being the tokens of the empty text, padded or not."""
    first = _shared(frame, ids)
    end = frame[first] if first < len(frame) else None
    return first, next((place for place in range(first, len(ids)) if ids[place] == end), len(ids))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
