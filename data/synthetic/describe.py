"""Report-like descriptions of findings, in the words of the taxonomy."""

import numpy as np

from data.errors import InputError
from data.taxonomy import Taxonomy

_OPENINGS = (
    "The field shows",
    "This field shows",
    "Microscopy shows",
    "The tissue shows",
    "The section shows",
    "We see",
)
_CONTINUATIONS = ("It also shows", "The field also has", "Also seen:", "Further:", "Additionally,", "We note")
_GROUP = 3


def describe(findings: dict[str, str], taxonomy: Taxonomy, rng: np.random.Generator) -> str:
    """Write a short report that states every one of `findings`.

    Each finding appears as one phrase of its value, verbatim. Findings keep the taxonomy's neighbourhoods of three, as
    reports do; the order of the sentences and within a sentence is drawn. Nothing but phrases names a finding, and no
    class is named.

    Raises:
        InputError: a finding or value that the taxonomy lacks, or a value without phrases.
    """
    phrases = [_phrase(name, findings[name], taxonomy, rng) for name in taxonomy.findings if name in findings]
    if unknown := sorted(set(findings) - set(taxonomy.findings)):
        raise InputError(f"taxonomy {taxonomy.name}: no finding {unknown[0]}")
    groups = [phrases[start : start + _GROUP] for start in range(0, len(phrases), _GROUP)]
    sentences = [
        _sentence(
            [groups[index][i] for i in rng.permutation(len(groups[index]))],
            first=place == 0,
            taxonomy=taxonomy,
            rng=rng,
        )
        for place, index in enumerate(rng.permutation(len(groups)))
    ]
    return " ".join(sentences)


def _phrase(name: str, value: str, taxonomy: Taxonomy, rng: np.random.Generator) -> str:
    if value not in taxonomy.findings[name].values:
        raise InputError(f"taxonomy {taxonomy.name}: no finding {name} with the value {value}")
    phrases = taxonomy.findings[name].values[value].phrases
    if not phrases:
        raise InputError(f"taxonomy {taxonomy.name}: {name}/{value} has no phrases; add one to describe it")
    return phrases[int(rng.integers(len(phrases)))]


def _sentence(phrases: list[str], *, first: bool, taxonomy: Taxonomy, rng: np.random.Generator) -> str:
    # What is denied comes last: a "no" reaches forward over a list, in a reader's mind as in a parser's.
    cues = tuple(f"{cue} " for cue in taxonomy.negation.before)
    stated = [phrase for phrase in phrases if not phrase.lower().startswith(cues)]
    denied = [phrase for phrase in phrases if phrase.lower().startswith(cues)]
    openings = _OPENINGS if first else _CONTINUATIONS
    opening = openings[int(rng.integers(len(openings)))]
    if stated and denied:
        turn = (", but ", ", with ", " with ")[int(rng.integers(3))]
        return f"{opening} {_join(stated)}{turn}{_join(denied)}."
    return f"{opening} {_join(stated or denied)}."


def _join(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
