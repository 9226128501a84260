"""The parts of a sentence between its joints, with what each states of the findings that it names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from data.lexicon import CUE_BEFORE, CUTS, Lexicon, Role, Token

_SINGULAR = re.compile(r"\b(?:is|was|has)(?: \w+){0,2}$")


class Mark(Enum):
    DENIED = auto()
    OPEN = auto()


@dataclass
class Term:
    token: Token
    finding: str
    said: Token | None = None
    """Value word or amount beside it."""
    said_not: bool = False
    mark: Mark | None = None
    seen: bool = False


@dataclass
class Segment:
    joint: str
    """What joins it to the segment before; empty for the first."""
    joint_role: Role
    start: int
    end: int
    tokens: list[Token]
    terms: list[Term] = field(default_factory=list)
    on: Mark | None = None
    """What a cue of it says of the segments behind."""
    back: Mark | None = None
    """What a cue of it says of the segments ahead."""
    back_alone: bool = False
    """Whether the verb of that cue is singular, so that it speaks of one thing."""

    @property
    def says(self) -> bool:
        """Whether it says something of its own about a finding, so that a neighbour's negation stops here."""
        return any(term.said or term.mark for term in self.terms)


def cut_segments(sentence: str, lexicon: Lexicon) -> list[Segment]:
    """Segments of `sentence`, in order, with their tokens and terms; none where it names no finding."""
    tokens = lexicon.tokens(sentence)
    if not any(Role.TERM in token.role for token in tokens):
        return []
    segments = [Segment("", Role(0), 0, len(sentence), [])]
    for token in tokens:
        if token.role & CUTS:
            segments[-1].end = token.start
            segments.append(Segment(token.text.lstrip(", ") or ",", token.role, token.end, len(sentence), []))
        # "Nor" is a joint and a cue.
        if not token.role & CUTS or token.role & CUE_BEFORE:
            segments[-1].tokens.append(token)
    for segment in segments:
        segment.terms = [Term(t, lexicon.finding_of[t.text]) for t in segment.tokens if Role.TERM in t.role]
        for term in segment.terms:
            term.seen = any(Role.SEEN in token.role for token in segment.tokens)
    return segments


def seen_at(segment: Segment, *, behind: bool) -> Token | None:
    """The word in `segment` that says its terms are seen, `behind` the last of them or ahead of the first."""
    for token in segment.tokens:
        if Role.SEEN in token.role:
            if behind and token.start >= segment.terms[-1].token.end:
                return token
            if not behind and token.end <= segment.terms[0].token.start:
                return token
    return None


def says_one(words: str) -> bool:
    return bool(_SINGULAR.search(words.rstrip()))


def compound_of(sentence: str, terms: Iterable[Term]) -> list[Term]:
    """The first of `terms` with those that stand directly beside it, as in "haemorrhagic necrosis"."""
    compound: list[Term] = []
    for term in terms:
        if compound:
            low, high = sorted((compound[-1].token, term.token), key=lambda token: token.start)
            between = sentence[low.end : high.start].strip(" -(")
            # "Differentiation of tumour cells" is one thing as well.
            if between and not (between == "of" and compound[-1].finding == term.finding):
                break
        compound.append(term)
    return compound
