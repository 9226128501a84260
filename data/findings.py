"""Read findings out of free text: terms, value words, amounts, negation and hedges, all from the taxonomy.

What a hedge means:

- one that leans towards a finding states it: "suggestive of", "consistent with", "probable", "rare" or "focal" necrosis
  is necrosis, since whoever reads the text will take it so;
- one that leaves it open states nothing, neither that it is there nor that it is not: "possible necrosis", "necrosis
  cannot be excluded", "?necrosis", "not assessed", "with or without";
- so does what is said of other tissue: "previously reported necrosis", "no history of necrosis";
- one that leans away denies: "no definite", "no convincing", "unlikely".

Of a range ("low to moderate", "100-200") the upper end counts; of limits, "up to 5 %" is below 5 %, "> 200" above 200.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from data.lexicon import CUE_AFTER, CUE_BEFORE, Lexicon, Role, Token
from data.segments import Mark, Segment, Term, compound_of, cut_segments, says_one, seen_at
from data.taxonomy import Taxonomy

# "Is", with what may stand between it and a value.
_COPULA = re.compile(
    r"(?<!there )\b(?:is|are|was|were|be|been|appears?|remains?|seems?|looks?)(?: (?:not|very|quite|rather|\w+ly))*$"
)
_RANGE = re.compile(r"\s*(?:to|-)\s*")
# "not clearly seen", "could not be confidently identified".
_FAR_FROM_CUE = 3


@dataclass(frozen=True)
class Mention:
    """Where a text states a finding: the term is `text[start:end]`."""

    finding: str
    value: str
    start: int
    end: int
    explicit: bool = True
    """Whether a value, an amount, a denial or "is seen" says so; else the text only names the term."""


def read_findings(text: str, taxonomy: Taxonomy) -> dict[str, str]:
    """Value of every finding that `text` states; `last_values` of its mentions."""
    return last_values(find_mentions(text, taxonomy))


def last_values(mentions: Sequence[Mention]) -> dict[str, str]:
    """Value of every finding that the `mentions` of a text state.

    Where statements disagree the last one counts, but the bare name of a finding takes nothing back of
    what is said of it elsewhere ("haemorrhage lies beside the necrosis").
    """
    by_weight = sorted(mentions, key=lambda mention: mention.explicit)
    return {mention.finding: mention.value for mention in by_weight}


def find_mentions(text: str, taxonomy: Taxonomy) -> list[Mention]:
    """Every statement of a finding in `text`, in order.

    Sentences are cut into segments at commas, "and", "or" and the taxonomy's ending words. A term takes the nearest
    value word or amount of its segment; a negation cue makes it the finding's `denied` value; a term with neither takes
    `stated`; one that is left open is no statement. In the manner of NegEx (Chapman et al. 2001) a cue reaches over to
    neighbouring segments: through "or" always, through commas and "and" as long as they state nothing themselves, and
    never past an ending word.
    """
    if taxonomy.key not in _READERS:
        _READERS[taxonomy.key] = _Reader(taxonomy)
    return _READERS[taxonomy.key].read(text)


class _Reader:
    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.lexicon = Lexicon(taxonomy)

    def read(self, text: str) -> list[Mention]:
        mentions = []
        for start, sentence in self.lexicon.sentences(text):
            for term in self._terms(sentence):
                value = self._value(term)
                if value is not None:
                    explicit = bool(term.said or term.mark or term.seen)
                    low, high = start + term.token.start, start + term.token.end
                    mentions.append(Mention(finding=term.finding, value=value, start=low, end=high, explicit=explicit))
        return mentions

    def _value(self, term: Term) -> str | None:
        finding = self.taxonomy.findings[term.finding]
        if term.mark is not None:
            return finding.denied if term.mark is Mark.DENIED else None
        value = self._says(term.finding, term.said)
        if not term.said_not:
            return value or finding.stated
        # "Not abundant" is less than that, and there; where that is the least of several degrees, nothing is left.
        return finding.denied if value == finding.stated and len(finding.values) > 2 else finding.stated

    def _says(self, finding: str, token: Token | None) -> str | None:
        """Value of `finding` that a word or an amount stands for, if it does."""
        if token is None:
            return None
        if token.amount is None:
            return self.lexicon.value_of[finding].get(token.text)
        values = self.taxonomy.findings[finding].values.values()
        return next((v.name for v in values if any(number.tells(token.amount) for number in v.numbers)), None)

    def _terms(self, sentence: str) -> list[Term]:
        segments = cut_segments(sentence, self.lexicon)
        for segment in segments:
            self._give_values(sentence, segment)
        self._give_stray_values(sentence, segments)
        for segment in segments:
            self._apply_cues(sentence, segment)
        self._carry_on(sentence, segments)
        self._carry_back(segments)
        return [term for segment in segments for term in segment.terms]

    def _give_values(self, sentence: str, segment: Segment) -> None:
        """Give each value word and amount of `segment` to the term that it belongs to."""
        previous: Token | None = None
        for token in segment.tokens:
            if not token.role & (Role.WORD | Role.AMOUNT | Role.TERM):
                continue
            able = [term for term in segment.terms if self._says(term.finding, token)]
            ahead = [term for term in able if term.token.end <= token.start]
            if ahead and _COPULA.search(sentence[segment.start : token.start].rstrip()):
                able = ahead
            if able:
                nearest = min(able, key=lambda t: max(t.token.start - token.end, token.start - t.token.end, 0))
                # The word ahead of a term wins over one behind it, an amount over both.
                ranged = (
                    previous is nearest.said and previous and _RANGE.fullmatch(sentence[previous.end : token.start])
                )
                wins = nearest.said is None or ranged or token.start < nearest.token.start or token.amount
                if wins and not (nearest.said and nearest.said.amount):
                    nearest.said = token
            previous = token

    def _give_stray_values(self, sentence: str, segments: list[Segment]) -> None:
        """Values of a segment without terms belong next door: "is present and abundant", "fresh, old blood"."""
        for index, segment in enumerate(segments):
            values = [token for token in segment.tokens if token.role & (Role.WORD | Role.AMOUNT)]
            if segment.terms or not values or any(token.role & (CUE_BEFORE | CUE_AFTER) for token in segment.tokens):
                continue
            ahead = next((other.terms[-1:] for other in reversed(segments[:index]) if other.terms), [])
            behind = [term for other in segments[index + 1 : index + 2] for term in other.terms[:1]]
            if behind and Role.JOINT not in segments[index + 1].joint_role:
                behind = []
            closed = ahead and (ahead[0].seen or _COPULA.search(sentence[: values[0].start].rstrip()))
            for term in [*ahead, *behind] if closed or values[0].amount else [*behind, *ahead]:
                fitting = [token for token in values if self._says(term.finding, token)]
                if fitting and (term.said is None or (fitting[-1].amount and not term.said.amount)):
                    term.said = fitting[-1]
                    break

    def _apply_cues(self, sentence: str, segment: Segment) -> None:
        for index, cue in enumerate(segment.tokens):
            if not cue.role & (CUE_BEFORE | CUE_AFTER):
                continue
            mark = Mark.DENIED if cue.role & (Role.DENIES_BEFORE | Role.DENIES_AFTER) else Mark.OPEN
            ahead = [term for term in segment.terms if term.token.end <= cue.start]
            behind = [term for term in segment.terms if term.token.start >= cue.end]
            following = segment.tokens[index + 1] if index + 1 < len(segment.tokens) else None
            backwards = bool(cue.role & CUE_AFTER)
            if cue.role & CUE_BEFORE and following is not None:
                if Role.WORD in following.role and ahead and ahead[-1].said is following:
                    ahead[-1].said_not = True
                    continue
                near = len(sentence[cue.end : following.start].split()) <= _FAR_FROM_CUE
                backwards |= Role.SEEN in following.role and near
            # "Necrosis: no".
            backwards |= bool(ahead) and not sentence[cue.end : segment.end].strip(" )")
            if cue.role & CUE_BEFORE and behind and ahead and backwards:
                # "Absent" stands on either side; its term is the one right beside it.
                between = sentence[ahead[-1].token.end : cue.start].strip(" (:-")
                backwards = (
                    not between or bool(_COPULA.search(between)) or bool(following and Role.SEEN in following.role)
                )
            if backwards and ahead:
                for term in compound_of(sentence, reversed(ahead)):
                    term.mark = mark
                segment.back, segment.back_alone = mark, says_one(sentence[segment.start : cue.start])
            elif behind:
                for term in compound_of(sentence, behind):
                    term.mark = mark if term.mark is not Mark.OPEN else Mark.OPEN
                segment.on = behind[0].mark
            elif not segment.terms:
                if backwards and (segment.joint or not cue.role & CUE_BEFORE):
                    segment.back, segment.back_alone = mark, says_one(sentence[segment.start : cue.start])
                else:
                    segment.on = mark

    def _carry_on(self, sentence: str, segments: list[Segment]) -> None:
        """Forwards: "no necrosis, calcification or haemorrhage"."""
        listed = False
        for segment, following in pairwise(segments):
            if segment.on is None or not self._reaches(sentence, segment, following, listed=listed):
                listed = False
                continue
            listed = True
            for term in following.terms:
                term.mark = term.mark or segment.on
            following.on = following.on or segment.on

    def _reaches(self, sentence: str, segment: Segment, following: Segment, *, listed: bool) -> bool:
        if Role.END in following.joint_role:
            return False
        if Role.SOFT_END in following.joint_role:
            return not segment.terms and not following.says
        if following.joint.endswith("or") or following.joint == "/":
            return True
        if following.says or (segment.terms and seen_at(segment, behind=True) is not None):
            return False
        if not following.terms:
            return True
        if seen_at(following, behind=False) is not None:
            return False
        verb = seen_at(following, behind=True)
        if verb is None:
            return True
        # "No necrosis and haemorrhages are seen" denies both, "no necrosis, and haemorrhages are seen" one.
        comma = sentence[: following.start].rstrip().removesuffix(following.joint).rstrip().endswith(",")
        return not says_one(sentence[following.start : verb.start]) and (
            listed or not (comma or following.joint == ",")
        )

    @staticmethod
    def _carry_back(segments: list[Segment]) -> None:
        """Backwards: "necrosis and haemorrhage are absent"."""
        for following, segment in pairwise(reversed(segments)):
            either = following.joint.endswith("or") or following.joint == "/"
            if following.back is None or following.joint_role & (Role.END | Role.SOFT_END):
                continue
            if following.terms and following.back_alone and not either:
                continue
            if segment.says or (segment.terms and any(Role.SEEN in token.role for token in segment.tokens)):
                continue
            for term in segment.terms:
                term.mark = following.back
            segment.back = following.back


_READERS: dict[str, _Reader] = {}
