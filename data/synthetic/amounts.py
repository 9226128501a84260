"""From a class to findings, and from findings to the amounts that are drawn."""

import numpy as np

from data.errors import InputError
from data.taxonomy import Subtype, Taxonomy

PRIMITIVES = (
    "cells",
    "fibrils",
    "rosettes",
    "large_cells",
    "fragments",
    "spindle",
    "calcium",
    "blood",
    "necrosis",
)
"""What can be drawn: `cells` as density 0..1; `fibrils`, `spindle`, `calcium`, `blood` and `necrosis` as fraction of
the area; `rosettes` as count in (112 µm)²; `large_cells` and `fragments` as fraction of the cells."""

Amounts = dict[str, float]
"""Amount of each primitive; one that is missing is not drawn."""

_TRIES = 200


def draw_findings(
    subtype: Subtype, taxonomy: Taxonomy, rng: np.random.Generator, *, rare: float = 0.0
) -> dict[str, str]:
    """Draw a value for every finding of `taxonomy`, as tissue of `subtype` shows them.

    Probabilities are those of the class's `synthetic` section, held to the class rule. A finding that the section
    leaves out takes one of the values that the rule allows, or else its denied value, or else any. With the
    probability `rare` the findings that define the class are not to be seen (see `hide_defining`).

    Raises:
        InputError: the class's `synthetic` section never gives findings that classify as this class.
    """
    for _ in range(_TRIES):
        findings = {}
        for name, finding in taxonomy.findings.items():
            allowed = subtype.rule.get(name, tuple(finding.values))
            weights = {v: p for v, p in subtype.synthetic.get(name, {}).items() if v in allowed and p > 0}
            if not weights:
                if name not in subtype.rule and finding.denied is not None:
                    allowed = (finding.denied,)
                weights = dict.fromkeys(allowed, 1.0)
            share = np.array(list(weights.values()), dtype=np.float64)
            findings[name] = list(weights)[int(rng.choice(len(share), p=share / share.sum()))]
        if taxonomy.classify(findings) == subtype.name:
            # Drawn only where asked for, so that the other draws are what they are without.
            return hide_defining(findings, subtype, taxonomy) if rare and rng.random() < rare else findings
    raise InputError(
        f"taxonomy {taxonomy.name}: the `synthetic` findings of class {subtype.name} do not satisfy its own `rule`"
        " (or satisfy an earlier class's); correct one of them"
    )


def hide_defining(findings: dict[str, str], subtype: Subtype, taxonomy: Taxonomy) -> dict[str, str]:
    """`findings` with those of the class's rule denied, as in a field of the tumour that does not show its class.

    A finding that cannot be denied stays as it is.
    """
    denied = {name: taxonomy.findings[name].denied for name in subtype.rule}
    return {name: denied.get(name) or value for name, value in findings.items()}


def draw_amounts(findings: dict[str, str], taxonomy: Taxonomy, rng: np.random.Generator) -> Amounts:
    """Draw the amount of each primitive from the `draw` ranges of the values in `findings`.

    Raises:
        InputError: the taxonomy names a primitive that cannot be drawn, or has no such finding or value.
    """
    amounts: Amounts = {}
    for name, value in findings.items():
        if name not in taxonomy.findings or value not in taxonomy.findings[name].values:
            raise InputError(f"taxonomy {taxonomy.name}: no finding {name} with the value {value}")
        for primitive, (low, high) in taxonomy.findings[name].values[value].draw.items():
            if primitive not in PRIMITIVES:
                raise InputError(
                    f"taxonomy {taxonomy.name}: {name}/{value} draws {primitive}; use one of {', '.join(PRIMITIVES)}"
                )
            amounts[primitive] = amounts.get(primitive, 0.0) + float(rng.uniform(low, high))
    return amounts
