"""Classes and findings of a tumour, read from a YAML file that a user can replace."""

from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from data.atomic import digest
from data.errors import InputError
from data.quantities import Quantity, parse_quantity


@dataclass(frozen=True)
class Value:
    """One value of a finding."""

    name: str
    phrases: tuple[str, ...]
    """Noun phrases a report uses for it; descriptions of synthetic tissue are written with them."""
    words: tuple[str, ...] = ()
    """Words that state this value when they stand beside a term of the finding."""
    numbers: tuple[Quantity, ...] = ()
    """Amounts that state this value beside a term of the finding."""
    draw: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Amount of each drawing primitive in synthetic tissue, as (low, high)."""


@dataclass(frozen=True)
class Finding:
    """One histological attribute, with the words it goes by."""

    name: str
    title: str
    terms: tuple[str, ...]
    values: dict[str, Value]
    denied: str | None = None
    """Value meant by a negated term ("no necrosis"); None where a negation says nothing."""
    stated: str | None = None
    """Value meant by a term with no value word beside it ("rosettes"); None where that says nothing."""


@dataclass(frozen=True)
class Subtype:
    """One class of the tumour."""

    name: str
    title: str
    rule: dict[str, tuple[str, ...]]
    """Finding name to the values that the class allows."""
    synthetic: dict[str, dict[str, float]]
    """Finding name to the probability of each value in synthetic tissue."""
    synonyms: tuple[str, ...] = ()
    """Other names, by which a text would give the class away."""


@dataclass(frozen=True)
class Negation:
    """Cues that deny a finding or leave it open, and what ends their reach."""

    before: tuple[str, ...] = ()
    """Deny what follows them."""
    after: tuple[str, ...] = ()
    """Deny what stands before them."""
    ends: tuple[str, ...] = ()
    """No cue reaches across these."""
    soft_ends: tuple[str, ...] = ()
    """A cue that has found what it denies does not reach across these."""
    harmless: tuple[str, ...] = ()
    """Phrases that hold a cue or an end but are none."""
    open_before: tuple[str, ...] = ()
    """Leave open whether what follows is there, or speak of other tissue ("previously reported")."""
    open_after: tuple[str, ...] = ()
    """Leave open whether what stands before is there ("cannot be excluded")."""
    seen: tuple[str, ...] = ()
    """Say that something is there, without a degree; "not" and one of these deny what stands before."""


@dataclass(frozen=True)
class Taxonomy:
    """What a tumour's subtypes and findings are called, and how classes follow from findings."""

    name: str
    tissue: str
    classes: dict[str, Subtype]
    findings: dict[str, Finding]
    negation: Negation
    source: str = field(repr=False)
    """The YAML text, `extends` resolved; written into bundles."""

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the file: the order of every logit and column."""
        return tuple(self.classes)

    @property
    def key(self) -> str:
        """Hash of the content."""
        return digest(self.source)

    def classify(self, findings: dict[str, str]) -> str | None:
        """Name of the first class whose rule `findings` satisfy, or None."""
        for subtype in self.classes.values():
            if all(findings.get(name) in allowed for name, allowed in subtype.rule.items()):
                return subtype.name
        return None


def load_taxonomy(name: str | Path = "neuroblastoma") -> Taxonomy:
    """Load a taxonomy that ships with the package by name, or any other by path.

    Raises:
        InputError: no such taxonomy, or the file does not have the expected form.
    """
    try:
        return _build(_resolve(str(name)), str(name))
    except RecursionError as error:
        raise InputError(f"{name}: extends itself; name another taxonomy under `extends`") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{name}: not a taxonomy ({error!r}); see docs/taxonomy.md for the form") from error


def _resolve(name: str) -> dict[str, Any]:
    shipped = resources.files("data") / "taxonomies" / f"{name}.yaml"
    if shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        known = sorted(p.name.removesuffix(".yaml") for p in (resources.files("data") / "taxonomies").iterdir())
        raise InputError(f"{name}: no such taxonomy; give a YAML file or one of {', '.join(known)}")
    try:
        content = yaml.safe_load(text.removeprefix("\ufeff"))
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{name}: not a taxonomy (expected a mapping); see docs/taxonomy.md for the form")
    if parent := content.pop("extends", None):
        try:
            base = _resolve(parent)
        except InputError as error:
            raise InputError(f"{name}: extends {error}") from error
        content = base | content | {key: base[key] | content.get(key, {}) for key in ("classes", "findings")}
    return content


def _build(content: dict[str, Any], source: str) -> Taxonomy:
    findings = {}
    for name, entry in content["findings"].items():
        values = {
            str(value): Value(
                name=str(value),
                phrases=tuple(spec["phrases"]),
                words=tuple(spec.get("words", ())),
                numbers=tuple(parse_quantity(str(amount)) for amount in spec.get("numbers", ())),
                draw={primitive: (float(low), float(high)) for primitive, (low, high) in spec.get("draw", {}).items()},
            )
            for value, spec in entry["values"].items()
        }
        finding = Finding(
            name=name,
            title=entry.get("title", name),
            terms=tuple(entry["terms"]),
            values=values,
            denied=entry.get("denied"),
            stated=entry.get("stated"),
        )
        for meant in (finding.denied, finding.stated):
            if meant is not None and meant not in values:
                raise InputError(f"{source}: finding {name}: {meant} is not one of its values {', '.join(values)}")
        findings[name] = finding
    classes = {}
    for name, entry in content["classes"].items():
        synonyms = entry.get("synonyms", [])
        if not isinstance(synonyms, list):
            raise InputError(f"{source}: synonyms of the class {name}: expected a list; write [first, second]")
        subtype = Subtype(
            name=str(name),
            title=entry.get("title", str(name)),
            rule={finding: tuple(allowed) for finding, allowed in entry.get("rule", {}).items()},
            synthetic=entry.get("synthetic", {}),
            synonyms=tuple(str(synonym) for synonym in synonyms),
        )
        for finding_name, used in [*subtype.rule.items(), *subtype.synthetic.items()]:
            if finding_name not in findings:
                raise InputError(f"{source}: class {name} names the finding {finding_name}, which is not defined")
            for value in used:
                if value not in findings[finding_name].values:
                    raise InputError(f"{source}: class {name}: {finding_name} has no value {value}")
        classes[subtype.name] = subtype
    if len(classes) < 2:
        raise InputError(f"{source}: a taxonomy needs at least two classes; add them under `classes`")
    return Taxonomy(
        name=content["name"],
        tissue=content["tissue"],
        classes=classes,
        findings=findings,
        negation=Negation(**{part: tuple(cues) for part, cues in content.get("negation", {}).items()}),
        source=yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
    )
