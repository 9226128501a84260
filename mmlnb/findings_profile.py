"""How often each finding is stated over the patches of a slide, and in which of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.findings import read_findings
from data.taxonomy import Taxonomy


@dataclass(frozen=True)
class FindingShare:
    """One finding over the described patches of a slide."""

    name: str
    title: str
    patches: dict[str, tuple[int, ...]]
    """Value to the indices of the patches that state it."""
    unstated: tuple[int, ...]
    """Indices of the described patches that say nothing of it."""
    weights: np.ndarray | None = None
    """Share of the slide that each patch stands for, by index; None where each described one counts the same."""

    @property
    def described(self) -> int:
        """Number of described patches."""
        return len(self.unstated) + sum(map(len, self.patches.values()))

    @property
    def values(self) -> dict[str, float]:
        """Value to its share of the described patches, or of the slide; what is missing to 1 was not stated."""
        if self.weights is None:
            return {value: len(stated) / self.described for value, stated in self.patches.items()}
        return {value: float(self.weights[list(stated)].sum()) for value, stated in self.patches.items()}


def read_stated(texts: Sequence[str | None], taxonomy: Taxonomy) -> list[dict[str, str] | None]:
    """Finding to value as each text states it; None where there is no text."""
    return [None if text is None else read_findings(text, taxonomy) for text in texts]


def findings_profile(
    stated: Sequence[dict[str, str] | None], taxonomy: Taxonomy, *, weights: np.ndarray | None = None
) -> list[FindingShare]:
    """Every finding of the taxonomy over the patches of a slide (see `read_stated`); empty when none is described.

    Where the described patches were chosen, `weights` (N,) say what share of the slide each stands for.
    """
    described = [(index, found) for index, found in enumerate(stated) if found is not None]
    if not described:
        return []
    return [
        FindingShare(
            name=name,
            title=finding.title,
            patches={
                value: tuple(index for index, found in described if found.get(name) == value)
                for value in finding.values
            },
            unstated=tuple(index for index, found in described if name not in found),
            weights=weights,
        )
        for name, finding in taxonomy.findings.items()
    ]
