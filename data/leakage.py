"""Find texts that name the class outright, and put a neutral word in its place."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.taxonomy import Subtype, Taxonomy

NEUTRAL = "this tumour"
_NOUN = r"(?:tumou?r|neoplasm|cancer|malignancy)"
_SEPARATOR = r"[\s_‐‑‒–—-]+"
_START, _END = r"(?<![\w‐‑‒–—-])", r"(?![\w‐‑‒–—-])"


@dataclass(frozen=True)
class Masked:
    """A text without its class, and the classes that it named, in order."""

    text: str
    named: tuple[str, ...]


class ClassNames:
    """The words by which a text would give its class away.

    For each class: its name, its title, the title in natural order ("Neuroblastoma, undifferentiated" is also
    "undifferentiated neuroblastoma" and "undifferentiated tumour"), and the taxonomy's `synonyms` for it. They count
    as whole words in any case; a name all in capitals, being an abbreviation, in capitals only. What is part of a
    finding's term ("differentiating neuroblasts") is histology and never counts. Negation is ignored: a text that
    denies a class speaks of classes all the same.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        heads = [subtype.title.partition(",")[0].strip().lower() for subtype in taxonomy.classes.values()]
        common = {taxonomy.tissue.lower(), *(head for head in heads if heads.count(head) > 1)}
        phrases = [
            (pattern, subtype.name) for subtype in taxonomy.classes.values() for pattern in _patterns(subtype, common)
        ]
        terms = [(_phrase(term), "") for finding in taxonomy.findings.values() for term in finding.terms]
        # The longest first: "non-viable tumour" is not "viable tumour", and a term holds the name inside it.
        ordered = sorted([*terms, *phrases], key=lambda pair: -len(pair[0]))
        self.classes = [name for _, name in ordered]
        self.pattern = re.compile(_START + "(?:" + "|".join(f"({pattern})" for pattern, _ in ordered) + ")" + _END)
        self.article = re.compile(r"(?i)\b(?:an?|the|this|that)\s+$")
        self.repeated = re.compile(rf"(?i)({NEUTRAL})(?:\s*\(\s*{NEUTRAL}\s*\)|,?\s+(?:{NEUTRAL}|{_NOUN}))+" + _END)

    def mask(self, text: str) -> Masked:
        """`text` with every naming replaced by a neutral word."""
        parts: list[str] = []
        named: list[str] = []
        done = 0
        for match in self.pattern.finditer(text):
            name = self.classes[(match.lastindex or 1) - 1]
            if not name:
                continue
            before = self.article.sub("", text[done : match.start()])
            opens = not "".join([*parts, before]).strip() or before.rstrip().endswith((".", "!", "?"))
            parts += [before, NEUTRAL.capitalize() if opens else NEUTRAL]
            named.append(name)
            done = match.end()
        if not named:
            return Masked(text, ())
        return Masked(self.repeated.sub(r"\1", "".join([*parts, text[done:]])), tuple(named))


def count_namings(
    named: Sequence[Sequence[str]], labels: Sequence[str | None], taxonomy: Taxonomy, *, what: str
) -> str | None:
    """A line about how many texts name a class outright, or None where none does.

    Args:
        named: the classes that each text names, as `Masked.named` has them.
        labels: class of each text's patch.
        what: what the texts are, such as "descriptions".
    """
    leaking = [(set(names), label) for names, label in zip(named, labels, strict=True) if names]
    if not leaking:
        return None
    texts_of = Counter(name for names, _ in leaking for name in names)
    counts = ", ".join(f"{name} {texts_of[name]}" for name in taxonomy.class_names if texts_of[name])
    own = sum(label in names for names, label in leaking)
    share = f"{len(leaking)} of {len(named)} {what} ({len(leaking) / len(named):.0%})"
    return f"leakage: {share} name a class outright ({counts}; in {own} it is their own)"


def _patterns(subtype: Subtype, common: set[str]) -> list[str]:
    """Patterns of one class; `common` are the nouns that several classes share."""
    patterns = []
    # "A" and "I" are words, and numbers count much else.
    if subtype.name.upper() not in ("A", "I") and not subtype.name.isdigit():
        patterns.append(re.escape(subtype.name) if subtype.name.isupper() else _phrase(subtype.name))
    head, comma, rest = (part.strip() for part in subtype.title.partition(","))
    if subtype.title != subtype.name:
        patterns.append(rf"{_phrase(head)},?\s+{_phrase(rest)}" if comma else _phrase(subtype.title))
    if comma:
        patterns.append(_phrase(f"{rest} {head}"))
        if head.lower() in common:
            patterns.append(rf"{_phrase(rest)}\s+{_NOUN}")
        else:
            # The noun of a class of its own, such as one word for a whole category.
            patterns.append(_phrase(head))
    return [*patterns, *(_phrase(synonym) for synonym in subtype.synonyms if _words(synonym))]


def _phrase(words: str) -> str:
    """Pattern of a phrase in any case and spelling, singular or plural, with any dash or space inside."""
    parts = [re.escape(part).replace("tumour", "tumou?r").replace("tumor", "tumou?r") for part in _words(words)]
    return "(?i:" + _SEPARATOR.join(parts) + "s?)"


def _words(phrase: str) -> list[str]:
    return [word for word in re.split(_SEPARATOR, phrase.lower()) if word]
