"""Read findings out of free text: terms, value words and negation, all from the taxonomy."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from data.taxonomy import Taxonomy

_CLAUSE = re.compile(r"[^.;:!?\n]+")
_DASHES = str.maketrans("‐‑‒–—", "-----")


@dataclass(frozen=True)
class Mention:
    """Where a text states a finding: the term is `text[start:end]`."""

    finding: str
    value: str
    start: int
    end: int


def read_findings(text: str, taxonomy: Taxonomy) -> dict[str, str]:
    """Value of every finding that `text` states; where statements disagree, the last one counts."""
    return {mention.finding: mention.value for mention in find_mentions(text, taxonomy)}


def find_mentions(text: str, taxonomy: Taxonomy) -> list[Mention]:
    """Every statement of a finding in `text`, in order.

    Clauses are cut into segments at commas, "and", "or" and the taxonomy's ending words. A term takes the nearest
    value word of its segment; a negation cue makes it the finding's `denied` value; a term with neither takes
    `stated`. In the manner of NegEx (Chapman et al. 2001) a cue reaches over to neighbouring segments: through "or"
    always, through commas and "and" as long as they state nothing themselves, and never past an ending word.
    """
    if taxonomy.key not in _READERS:
        _READERS[taxonomy.key] = _Reader(taxonomy)
    return _READERS[taxonomy.key].read(text)


@dataclass
class _Term:
    finding: str
    start: int
    end: int
    word: str | None = None
    denied: bool = False


@dataclass
class _Segment:
    joint: str
    """What joins it to the segment before: "or", "and", "," or an ending word; empty for the first."""
    terms: list[_Term] = field(default_factory=list)
    denies_on: bool = False
    denies_back: bool = False

    @property
    def states(self) -> bool:
        """Whether it says something of its own, so that a neighbour's negation stops here."""
        return any(term.word or term.denied for term in self.terms)


class _Reader:
    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        findings = taxonomy.findings.values()
        self.finding_of = {term.lower(): finding.name for finding in findings for term in finding.terms}
        self.value_of = {f.name: {w.lower(): v.name for v in f.values.values() for w in v.words} for f in findings}
        self.term = _any_of(self.finding_of)
        self.word = _any_of(word for words in self.value_of.values() for word in words)
        self.before = _any_of(taxonomy.negation.before)
        self.after = _any_of(taxonomy.negation.after)
        self.ends = {end.lower() for end in taxonomy.negation.ends}
        self.joint = re.compile(r",(?:\s*(?:and|or|nor)\b)?|" + _any_of({"and", "or", "nor", *self.ends}).pattern)

    def read(self, text: str) -> list[Mention]:
        lowered = text.translate(_DASHES)
        # Lower-casing may change the length of a few letters; positions must stay those of `text`.
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in lowered)
        return [
            Mention(finding=term.finding, value=value, start=clause.start() + term.start, end=clause.start() + term.end)
            for clause in _CLAUSE.finditer(lowered)
            for term in self._terms(clause.group())
            if (value := self._value(term)) is not None
        ]

    def _value(self, term: _Term) -> str | None:
        finding = self.taxonomy.findings[term.finding]
        if term.denied:
            return finding.denied
        return self.value_of[finding.name][term.word] if term.word else finding.stated

    def _terms(self, clause: str) -> list[_Term]:
        terms = [_Term(self.finding_of[m.group()], m.start(), m.end()) for m in self.term.finditer(clause)]
        if not terms:
            return []
        segments = self._segments(clause, terms)
        for segment, following in pairwise(segments):
            # Forwards: "no necrosis, calcification or haemorrhage".
            if segment.denies_on and self._carries(following.joint, following):
                following.denies_on = True
                for term in following.terms:
                    term.denied = True
        for following, segment in pairwise(reversed(segments)):
            # Backwards: "necrosis and haemorrhage are absent".
            if following.denies_back and not segment.states and following.joint not in self.ends:
                segment.denies_back = True
                for term in segment.terms:
                    term.denied = True
        return terms

    def _carries(self, joint: str, segment: _Segment) -> bool:
        return joint not in self.ends and (joint.endswith("or") or not segment.states)

    def _segments(self, clause: str, terms: list[_Term]) -> list[_Segment]:
        """Cut `clause` at its joints and fill in what each segment states by itself."""
        segments, start, joint = [], 0, ""
        inside = [(term.start, term.end) for term in terms]
        for match in [*self.joint.finditer(clause), None]:
            if match and any(low <= match.start() < high for low, high in inside):
                continue
            end = match.start() if match else len(clause)
            segments.append(self._segment(clause, start, end, joint, terms))
            if match:
                start, joint = match.end(), match.group().lstrip(", ") or ","
        return segments

    def _segment(self, clause: str, start: int, end: int, joint: str, terms: list[_Term]) -> _Segment:
        segment = _Segment(joint, [term for term in terms if start <= term.start < end])
        for match in self.word.finditer(clause, start, end):
            # A term such as "hypercellular" is its own value word.
            able = [term for term in segment.terms if match.group() in self.value_of[term.finding]]
            if able:
                nearest = min(able, key=lambda term: max(term.start - match.end(), match.start() - term.end, 0))
                if nearest.word is None or match.start() < nearest.start:
                    nearest.word = match.group()
        after = list(self.after.finditer(clause, start, end))
        for match in after:
            denied = [term for term in segment.terms if term.end <= match.start()]
            if denied:
                denied[-1].denied = True
            segment.denies_back |= bool(denied) or not segment.terms
        for match in self.before.finditer(clause, start, end):
            if any(cue.start() <= match.start() < cue.end() for cue in after if not self._leads(cue, segment)):
                continue
            denied = [term for term in segment.terms if term.start >= match.end()]
            if denied:
                denied[0].denied = True
            segment.denies_on |= bool(denied) or not segment.terms
        return segment

    @staticmethod
    def _leads(cue: re.Match[str], segment: _Segment) -> bool:
        """Whether a word that may stand on either side ("absent") stands ahead of the segment's terms."""
        return bool(segment.terms) and cue.end() <= segment.terms[0].start


_READERS: dict[str, _Reader] = {}


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted({word.lower() for word in words}, key=lambda word: (-len(word), word))
    if not longest_first:
        return re.compile(r"(?!)")
    return re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])")
