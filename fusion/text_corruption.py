"""Make text wrong on purpose, in the ways that written descriptions go wrong."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.findings import Mention, find_mentions
from data.taxonomy import Taxonomy

_WORD = re.compile(r"\S+")
_MASKED = "[MASK]"
# Words between a denial and the finding it belongs to.
_REACH = 4


@dataclass(frozen=True)
class TextCase:
    """The texts of N patches, and what is known of the patches."""

    texts: Sequence[str | None]
    labels: np.ndarray
    """(N,) class indices."""
    groups: Sequence[str]
    """Of each patch, the patient or another unit whose patches share their words; a swap crosses it."""
    taxonomy: Taxonomy


@dataclass(frozen=True)
class CorruptedText:
    """Texts of N patches, some of them wrong."""

    texts: list[str | None]
    corrupted: np.ndarray
    """(N,) bool: whose text was changed."""


Corruption = Callable[[TextCase, float, np.random.Generator], CorruptedText]


def drop(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Leave a share `rate` of the patches without text."""
    chosen = _choose(case, rate, rng)
    return CorruptedText([None if gone else text for text, gone in zip(case.texts, chosen, strict=True)], chosen)


def swap_within(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Give a share `rate` of the patches the text of another patient's patch of the same class."""
    return _swap(case, rate, rng, lambda own, other: own == other)


def swap_across(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Give a share `rate` of the patches the text of a patch of another class, any other."""
    return _swap(case, rate, rng, lambda own, other: own != other)


def wrong_class(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Give a share `rate` of the patches text of one wrong class, the next in the taxonomy."""
    classes = len(case.taxonomy.class_names)
    return _swap(case, rate, rng, lambda own, other: other == (own + 1) % classes)


def mask_words(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Mask a share `rate` of the words of every text."""

    def masked(text: str) -> str:
        return _WORD.sub(lambda word: _MASKED if rng.random() < rate else word.group(), text)

    return _rewrite(case, masked if rate else _same)


def truncate(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """Cut a share `rate` of the words off the end of every text; without any left, the text is missing."""

    def cut(text: str) -> str:
        words = text.split()
        return " ".join(words[: round(len(words) * (1 - rate))])

    return _rewrite(case, cut)


def flip_negations(case: TextCase, rate: float, rng: np.random.Generator) -> CorruptedText:
    """State what was denied, and deny what was stated, in a share `rate` of the texts."""
    chosen = _choose(case, rate, rng)
    texts = [
        text if text is None or not flipped else flip_text(text, case.taxonomy)
        for text, flipped in zip(case.texts, chosen, strict=True)
    ]
    changed = np.array([new != old for new, old in zip(texts, case.texts, strict=True)])
    return CorruptedText(texts, chosen & changed)


CORRUPTIONS: dict[str, Corruption] = {
    "dropped": drop,
    "within-class swap": swap_within,
    "cross-class swap": swap_across,
    "caption of a wrong class": wrong_class,
    "masked words": mask_words,
    "truncation": truncate,
    "flipped negations": flip_negations,
}


def flip_text(text: str, taxonomy: Taxonomy) -> str:
    """`text` with every denied finding stated and every stated one denied, where the taxonomy knows a denial of it."""
    # Places in the text as it is: one denial may belong to several findings.
    edits: dict[tuple[int, int], str] = {}
    for mention in find_mentions(text, taxonomy):
        denied = taxonomy.findings[mention.finding].denied
        if denied is not None and mention.value != denied:
            edits[mention.start, mention.start] = "no "
        elif denied is not None and (cue := _denial(text, mention, taxonomy)):
            edits[cue] = ""
    for (start, end), words in sorted(edits.items(), reverse=True):
        text = text[:start] + words + text[end:]
    return text


def _denial(text: str, mention: Mention, taxonomy: Taxonomy) -> tuple[int, int] | None:
    """Where the words stand that deny `mention`, the blank behind them included."""
    cues = "|".join(re.escape(cue) for cue in sorted(taxonomy.negation.before, key=len, reverse=True))
    found = list(re.finditer(rf"\b(?:{cues})\s+", text[: mention.start], flags=re.IGNORECASE))
    if not found or len(text[found[-1].end() : mention.start].split()) > _REACH:
        return None
    return found[-1].span()


def _choose(case: TextCase, rate: float, rng: np.random.Generator) -> np.ndarray:
    """A share `rate` of the patches with text, (N,) bool; more of the same ones at a higher rate."""
    order = rng.random(len(case.texts))
    known = np.array([text is not None for text in case.texts])
    chosen = np.zeros(len(order), dtype=bool)
    ranked = np.flatnonzero(known)[np.argsort(order[known])]
    chosen[ranked[: round(rate * len(ranked))]] = True
    return chosen


def _swap(case: TextCase, rate: float, rng: np.random.Generator, allowed: Callable[[int, int], bool]) -> CorruptedText:
    chosen = _choose(case, rate, rng)
    texts = list(case.texts)
    by_class = {label: np.flatnonzero(case.labels == label) for label in np.unique(case.labels)}
    for row in np.flatnonzero(chosen):
        others = [rows for label, rows in by_class.items() if allowed(int(case.labels[row]), int(label))]
        pool = [
            int(other)
            for other in (np.concatenate(others) if others else [])
            if case.texts[int(other)] is not None and case.groups[int(other)] != case.groups[int(row)]
        ]
        if pool:
            texts[row] = case.texts[pool[int(rng.integers(len(pool)))]]
        else:
            chosen[row] = False
    return CorruptedText(texts, chosen)


def _rewrite(case: TextCase, change: Callable[[str], str]) -> CorruptedText:
    texts = [None if text is None else change(text) or None for text in case.texts]
    return CorruptedText(texts, np.array([new != old for new, old in zip(texts, case.texts, strict=True)]))


def _same(text: str) -> str:
    return text
