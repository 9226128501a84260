"""How well texts state the findings that are there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.taxonomy import Taxonomy

_UNSTATED = "(unstated)"


@dataclass(frozen=True)
class FindingScores:
    """Macro-F1 of each finding over its values, and their mean."""

    macro_f1: float
    per_finding: dict[str, float]


def finding_macro_f1(
    truth: Sequence[dict[str, str]], predicted: Sequence[dict[str, str]], taxonomy: Taxonomy
) -> FindingScores:
    """Compare findings row by row; what a text leaves unstated counts as wrong.

    Args:
        truth: finding name to value of each patch; a row that lacks a finding does not count for it.
        predicted: the same, as read from the texts.

    Returns:
        For every finding with any truth, the F1 averaged over the values that occur in the truth.
    """
    from sklearn.metrics import f1_score

    per_finding = {}
    for name in taxonomy.findings:
        pairs = [(t[name], p.get(name, _UNSTATED)) for t, p in zip(truth, predicted, strict=True) if name in t]
        if not pairs:
            continue
        actual, stated = zip(*pairs, strict=True)
        # A value that never occurs has no recall to average; a text that states it is wrong all the same.
        labels = sorted(set(actual))
        per_finding[name] = float(f1_score(actual, stated, labels=labels, average="macro", zero_division=0.0))
    mean = float(np.mean(list(per_finding.values()))) if per_finding else float("nan")
    return FindingScores(macro_f1=mean, per_finding=per_finding)
