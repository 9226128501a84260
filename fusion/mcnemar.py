"""McNemar's test: whether one of two classifiers is right more often on the same rows."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """How often each was right, and the exact two-sided test (McNemar, Psychometrika 1947)."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p: float | None
    """Probability of at least as uneven a split where they are equally good; 1 where they never differ, None without
    rows."""


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> McNemar:
    """Test two bool arrays (N,): whether each row was called right by A and by B."""
    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    p: float | None = None
    if len(a_right):
        p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(
        both_right=int((a_right & b_right).sum()),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=int((~a_right & ~b_right).sum()),
        p=p,
    )
