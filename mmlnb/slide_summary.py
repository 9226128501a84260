"""A paragraph on a slide that is made of counts alone, each with the patches it was counted over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.taxonomy import Taxonomy
from mmlnb.findings_profile import FindingShare

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Count:
    """So many patches of a slide of which one thing holds."""

    anchor: str
    """Where on the page they are listed."""
    subject: str
    value: str
    patches: tuple[int, ...]
    """Their indices."""
    of: int
    """Patches of which it might hold."""
    weight: float | None = None
    """Share of the slide that its patches stand for; None where each stands for itself."""

    @property
    def share(self) -> float:
        """Share of the patches of which it might hold; of the whole slide where they stand for others too."""
        return len(self.patches) / self.of if self.weight is None else self.weight


@dataclass(frozen=True)
class Part:
    """A piece of the paragraph; one with a count is a number."""

    text: str
    count: Count | None = None


@dataclass(frozen=True)
class Counts:
    """Everything that is counted on a slide; whatever is zero is left out."""

    calls: list[Count]
    """Patches by the class that the models call."""
    rules: list[Count]
    """Described patches by the class that the taxonomy's rules give for what their captions state."""
    findings: list[list[Count]]
    """Described patches by value, finding by finding; what is not stated comes last."""
    patches: int
    described: int
    weighted: bool = False
    """Whether the shares of rules and findings are estimates for the slide, from described patches that were chosen."""

    def all(self) -> list[Count]:
        """Every count, in the order of the page."""
        return [*self.calls, *self.rules, *(count for finding in self.findings for count in finding)]


def count_slide(
    called: dict[str, tuple[int, ...]],
    stated: Sequence[dict[str, str] | None],
    profile: Sequence[FindingShare],
    taxonomy: Taxonomy,
    *,
    weights: np.ndarray | None = None,
) -> Counts:
    """Count the calls, the findings and what follows from them.

    Args:
        called: class to the patches that call it.
        stated: what each caption states (see `read_stated`).
        profile: of the same captions.
        taxonomy: gives the rules.
        weights: share of the slide (N,) that each described patch stands for, where they were chosen.
    """
    described = [index for index, found in enumerate(stated) if found is not None]
    by_rule: dict[str, list[int]] = {name: [] for name in (*taxonomy.class_names, "no class")}
    if any(subtype.rule for subtype in taxonomy.classes.values()):
        for index in described:
            by_rule[taxonomy.classify(stated[index] or {}) or "no class"].append(index)

    def weight(patches: tuple[int, ...]) -> float | None:
        return None if weights is None else float(weights[list(patches)].sum())

    def counts(
        anchor: str, subject: str, groups: dict[str, tuple[int, ...]], of: int, *, captions: bool = True
    ) -> list[Count]:
        return [
            Count(f"{anchor}-{number}", subject, value, patches, of, weight(patches) if captions else None)
            for number, (value, patches) in enumerate(groups.items())
            if patches
        ]

    return Counts(
        calls=counts("call", "Called", called, len(stated), captions=False),
        rules=counts("rule", "By the captions alone", {n: tuple(p) for n, p in by_rule.items()}, len(described)),
        findings=[
            counts(f"finding-{number}", finding.title, finding.patches | {NOT_STATED: finding.unstated}, len(described))
            for number, finding in enumerate(profile)
        ],
        patches=len(stated),
        described=len(described),
        weighted=weights is not None,
    )


def summary(counts: Counts) -> list[Part]:
    """The paragraph; its parts joined are its text. What captions do not state is left to the table."""
    parts = [Part("The models call "), *_listed(counts.calls, of="patches"), Part(". ")]
    if not counts.described:
        return [*parts, Part("No patch was described, so no finding can be counted.")]
    parts.append(Part(f"{counts.described} of {counts.patches} patches were described. "))
    if counts.weighted:
        parts.append(Part("They were chosen, so shares are estimates for the whole slide (see Findings). "))
    if counts.rules:
        parts.append(Part("By the findings in the captions and the rules of the taxonomy alone, their classes are: "))
        parts += [*_listed(counts.rules), Part(". ")]
    for finding in counts.findings:
        if known := [count for count in finding if count.value != NOT_STATED]:
            parts += [Part(f"{known[0].subject}: "), *_listed(known, link="in"), Part(". ")]
    return parts


def text_of(parts: Sequence[Part]) -> str:
    """The paragraph as plain text."""
    return "".join(part.text for part in parts).strip()


def _listed(counts: Sequence[Count], *, of: str = "", link: str = "") -> Iterator[Part]:
    """Every count with its value, the most frequent first: "3 of 5 patches A (60%), 2 B (40%)"; "low in 3 (60%)"."""
    for number, count in enumerate(sorted(counts, key=lambda count: -len(count.patches))):
        before = f"{count.value} {link} " if link else ""
        yield Part((", " if number else "") + before)
        yield Part(str(len(count.patches)), count)
        whole = f" of {count.of} {of}" if of and not number else ""
        yield Part(f"{whole}{'' if link else f' {count.value}'} ({count.share:.0%})")
