"""How often each finding is stated over the patches of a slide."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.findings import read_findings
from data.taxonomy import Taxonomy


@dataclass(frozen=True)
class FindingShare:
    """One finding over the described patches of a slide."""

    title: str
    values: dict[str, float]
    """Value to its share of the described patches; what is missing to 1 was not stated."""


def findings_profile(texts: Sequence[str | None], taxonomy: Taxonomy) -> list[FindingShare]:
    """Share of each value of each finding over the captions in `texts`; empty when there are none."""
    stated = [read_findings(text, taxonomy) for text in texts if text is not None]
    if not stated:
        return []
    profile = []
    for finding in taxonomy.findings.values():
        counts = Counter(found.get(finding.name) for found in stated)
        profile.append(FindingShare(finding.title, {v: counts[v] / len(stated) for v in finding.values}))
    return profile
