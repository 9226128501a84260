"""Cut a sentence into the tokens that matter for findings: terms, value words, amounts, cues and joints."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Flag, auto

from data.quantities import QUANTITY, Quantity, read_quantity
from data.taxonomy import Taxonomy

_DASHES = str.maketrans("‐‑‒–—’", "-----'")
# A full stop inside a number or behind "approx" ends nothing; neither does the query of "?necrosis".
_SENTENCE = re.compile(r"(?:[^.;!?\n]|(?<=\d)\.(?=\d)|(?<=\bapprox)\.|\?(?=\w))+")
_JOINTS = (
    *("and", "or", "nor", "and/or", "/", "&", "as well as", "plus"),
    *(", and", ", or", ", nor", ", and/or", ", as well as", ", plus"),
)


class Role(Flag):
    """What a token may be; "absent" denies on either side, "hypercellular" is a term and its own value."""

    TERM = auto()
    WORD = auto()
    AMOUNT = auto()
    DENIES_BEFORE = auto()
    DENIES_AFTER = auto()
    OPENS_BEFORE = auto()
    OPENS_AFTER = auto()
    SEEN = auto()
    JOINT = auto()
    END = auto()
    SOFT_END = auto()
    HARMLESS = auto()


CUE_BEFORE = Role.DENIES_BEFORE | Role.OPENS_BEFORE
CUE_AFTER = Role.DENIES_AFTER | Role.OPENS_AFTER
CUTS = Role.JOINT | Role.END | Role.SOFT_END


@dataclass(frozen=True)
class Token:
    """One entry of the lexicon in a sentence, at `sentence[start:end]`."""

    text: str
    start: int
    end: int
    role: Role
    amount: Quantity | None = None


class Lexicon:
    """The entries of a taxonomy; of entries that overlap, the first and then the longest counts."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        findings, cues = taxonomy.findings.values(), taxonomy.negation
        self.finding_of = {term.lower(): finding.name for finding in findings for term in finding.terms}
        self.value_of = {f.name: {w.lower(): v.name for v in f.values.values() for w in v.words} for f in findings}
        words = [word for words in self.value_of.values() for word in words]
        self.roles: dict[str, Role] = {}
        for entries, role in (
            (self.finding_of, Role.TERM),
            (words, Role.WORD),
            (cues.before, Role.DENIES_BEFORE),
            (cues.after, Role.DENIES_AFTER),
            (cues.open_before, Role.OPENS_BEFORE),
            (cues.open_after, Role.OPENS_AFTER),
            (cues.seen, Role.SEEN),
            (cues.ends, Role.END),
            (cues.soft_ends, Role.SOFT_END),
            (cues.harmless, Role.HARMLESS),
            (_JOINTS, Role.JOINT),
        ):
            for entry in entries:
                self.roles[entry.lower()] = self.roles.get(entry.lower(), Role(0)) | role
        self.entry = re.compile(rf"(?P<amount>{QUANTITY.pattern})|{_any_of(self.roles)}|(?<!\d),|,(?!\d)")
        around = _any_of([*words, *cues.before, *cues.after], bounded=False)
        terms = _any_of(self.finding_of, bounded=False)
        # "mucin-rich", "necrosis-free", "non-necrotic", "low-to-moderate": hyphens that stand for spaces.
        self.hyphen = re.compile(
            rf"(?<![\w-])(?:{terms}-(?={around}\b)|{around}-(?={terms}\b|to-))|(?<=-to)-(?={around}\b)"
        )

    def sentences(self, text: str) -> Iterator[tuple[int, str]]:
        """Start and lower-cased words of each sentence, letter by letter where `text` has them."""
        unified = text.translate(_DASHES)
        lowered = unified.lower()
        if len(lowered) != len(text):
            # A few letters grow when lower-cased; positions must stay those of `text`.
            lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in unified)
        for match in _SENTENCE.finditer(lowered):
            sentence = match.group()
            if "-" in sentence:
                sentence = self.hyphen.sub(lambda found: found.group().removesuffix("-") + " ", sentence)
            yield match.start(), sentence

    def tokens(self, sentence: str) -> list[Token]:
        """Tokens of `sentence`, in order and apart from each other."""
        found = []
        for match in self.entry.finditer(sentence):
            text = re.sub(r"\s+", " ", match.group())
            if match["amount"]:
                found.append(Token(text, match.start(), match.end(), Role.AMOUNT, read_quantity(match)))
            else:
                found.append(Token(text, match.start(), match.end(), self.roles.get(text, Role.JOINT)))
        return found


def _any_of(entries: Iterable[str], *, bounded: bool = True) -> str:
    """Pattern of the longest of `entries` (lower case), as whole words if `bounded`."""
    longest_first = sorted({entry.lower() for entry in entries}, key=lambda entry: (-len(entry), entry))
    patterns = {entry: re.escape(entry).replace(r",\ ", r",\s*").replace(r"\ ", r"\s+") for entry in longest_first}
    if not bounded:
        return "(?:" + "|".join(patterns.values()) + ")" if patterns else "(?!)"
    words = [pattern for entry, pattern in patterns.items() if entry[0].isalnum() and entry[-1].isalnum()]
    signs = [
        pattern + (r"(?![\w-])" if entry[-1].isalnum() else "")
        for entry, pattern in patterns.items()
        if not (entry[0].isalnum() and entry[-1].isalnum())
    ]
    return rf"(?:(?<![\w-])(?:{'|'.join(words) or '(?!)'})(?![\w-])|{'|'.join(signs) or '(?!)'})"
