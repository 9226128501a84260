"""What captions state of each finding against what is there: right, invented, left out, contradictory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.taxonomy import Finding, Taxonomy
from vlm_finetune.judge.bootstrap import divide
from vlm_finetune.judge.rows import JudgedRow


@dataclass(frozen=True)
class FindingCounts:
    """What each of N captions says of one finding with V values; all but `actual` and `right` are bool (N,).

    "There" means a value other than the one that a denial means; a finding without such a value is never hallucinated
    or omitted, only wrong.
    """

    finding: Finding
    actual: np.ndarray
    """One-hot truth, int (N, V); zeros where it is not known."""
    stated: np.ndarray
    """One-hot statement, int (N, V), where the truth is known."""
    right: np.ndarray
    """Both at once, int (N, V)."""
    claimed: np.ndarray
    """Stated to be there, and the truth is known."""
    hallucinated: np.ndarray
    """Stated to be there, and it is not."""
    present: np.ndarray
    """Known to be there."""
    omitted: np.ndarray
    """Known to be there, and denied or not stated."""
    misgraded: np.ndarray
    """Stated and there, to another degree."""
    unverifiable: np.ndarray
    """Stated to be there, and nothing is known."""
    contradicted: np.ndarray
    """Stated with two values, or stated and denied, in one caption."""


def count_finding(rows: Sequence[JudgedRow], finding: Finding) -> FindingCounts:
    """Compare what `rows` state of `finding` with what is known."""
    values = list(finding.values)
    said = [row.stated.get(finding.name) for row in rows]
    true = [row.truth.get(finding.name) for row in rows]
    known = np.array([value is not None for value in true])
    actual, stated = (
        np.array([[value == one for one in values] for value in column], dtype=int).reshape(len(rows), len(values))
        for column in (true, said)
    )
    stated[~known] = 0
    there, claims = (
        np.array([finding.denied is not None and value not in (None, finding.denied) for value in column])
        for column in (true, said)
    )
    return FindingCounts(
        finding=finding,
        actual=actual,
        stated=stated,
        right=actual * stated,
        claimed=claims & known,
        hallucinated=claims & known & ~there,
        present=there,
        omitted=there & ~claims,
        misgraded=there & claims & np.array([one != other for one, other in zip(said, true, strict=True)]),
        unverifiable=claims & ~known,
        contradicted=np.array([_contradicts(row, finding) for row in rows]),
    )


def _contradicts(row: JudgedRow, finding: Finding) -> bool:
    mentions = [mention for mention in row.mentions if mention.finding == finding.name]
    explicit = {mention.value for mention in mentions if mention.explicit}
    # The bare name of a finding says that it is there, but not how much of it.
    bare = any(not mention.explicit for mention in mentions)
    return len(explicit) > 1 or (bare and explicit == {finding.denied})


def macro_f1(counts: Sequence[FindingCounts]) -> tuple[np.ndarray, "MacroF1"]:
    """What every row adds to the counts of the macro-F1, (N, K), and the figure of their sums."""
    rows = [np.concatenate([one.right, one.stated, one.actual], axis=1) for one in counts]
    return np.concatenate(rows, axis=1), MacroF1(tuple(one.actual.shape[1] for one in counts))


@dataclass(frozen=True)
class MacroF1:
    """Mean over findings of the F1 averaged over the values that occur: `finding_scores` on sums of counts."""

    widths: tuple[int, ...]
    """Number of values of each finding."""

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """Macro-F1 (...) of `sums` (..., K)."""
        scores, start = [], 0
        for width in self.widths:
            right, stated, actual = (sums[..., start + i * width : start + (i + 1) * width] for i in range(3))
            start += 3 * width
            f1 = np.where(actual > 0, divide(2 * right, stated + actual), np.nan)
            scores.append(mean_of_defined(f1))
        return mean_of_defined(np.stack(scores, axis=-1))


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    defined = np.isfinite(values)
    return divide(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def finding_table(counts: Sequence[FindingCounts]) -> list[dict[str, str | int | float | None]]:
    """One line for each finding: how often known, stated and right, with the rates."""
    return [_line(one) for one in counts]


def _line(one: FindingCounts) -> dict[str, str | int | float | None]:
    right, stated, known = int(one.right.sum()), int(one.stated.sum()), int(one.actual.sum())
    sums, statistic = macro_f1([one])
    return {
        "finding": one.finding.name,
        "known": known,
        "stated": stated,
        "right": right,
        "precision": share(right, stated),
        "recall": share(right, known),
        "f1": share(2 * right, stated + known),
        "macro_f1": defined(float(statistic(sums.sum(axis=0)))),
        "hallucinated": int(one.hallucinated.sum()),
        "hallucination_rate": share(int(one.hallucinated.sum()), int(one.claimed.sum())),
        "omitted": int(one.omitted.sum()),
        "omission_rate": share(int(one.omitted.sum()), int(one.present.sum())),
        "misgraded": int(one.misgraded.sum()),
        "unverifiable": int(one.unverifiable.sum()),
        "contradicted": int(one.contradicted.sum()),
    }


def share(part: float, whole: float) -> float | None:
    """`part` of `whole`; None where there is nothing to share."""
    return part / whole if whole else None


def defined(value: float) -> float | None:
    """`value`, or None for NaN."""
    return value if np.isfinite(value) else None


def count_findings(rows: Sequence[JudgedRow], taxonomy: Taxonomy) -> list[FindingCounts]:
    """Counts of every finding of `taxonomy`, in its order."""
    return [count_finding(rows, finding) for finding in taxonomy.findings.values()]
