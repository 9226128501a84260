"""One patch as a source states it: the same row from every form, still text and not yet checked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a field may be called; the first of these names that is there counts.
NAMES = {
    "file_name": ("file_name", "image"),
    "label": ("label", "class"),
    "patient_id": ("patient_id",),
    "description": ("description", "caption", "text"),
    "findings": ("findings",),
    "slide_id": ("slide_id",),
    "x": ("x",),
    "y": ("y",),
    "mpp": ("mpp",),
    "split": ("split",),
    "site": ("site",),
}


@dataclass(frozen=True)
class Fault:
    """Why an entry cannot be read as one patch."""

    what: str
    remedy: str


class FaultError(Exception):
    """Raised with a `Fault` inside the reader of one entry; never leaves this package."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.fault = Fault(what, remedy)


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One patch; an empty string where the source says nothing."""

    where: str
    """Place in the source, for messages: "line 5", "entry 3", "row 7 of train"."""
    file_name: str = ""
    """Path of the image, absolute or relative to the folder of the source."""
    label: str = ""
    patient_id: str = ""
    description: str = ""
    findings: str = ""
    """JSON object."""
    slide_id: str = ""
    x: str = ""
    y: str = ""
    mpp: str = ""
    split: str = ""
    site: str = ""
    """Where the patient was treated."""
    question: str = ""
    """What a conversation asked; only counted, since fine-tuning asks with its own prompt."""
    fault: Fault | None = None
    """Set where the entry could not be read; the other fields are then empty."""


@dataclass(frozen=True)
class Source:
    """All rows of a source."""

    path: Path
    """The source as it was given, for messages."""
    base: Path
    """Folder from which relative file names are meant."""
    rows: tuple[SourceRow, ...]
    columns: tuple[str, ...]
    """Fields of `SourceRow` that the source has, be it in one row only."""
    found: tuple[str, ...] = ()
    """Columns or keys as the source spells them."""
    embedded: bool = False
    """Whether images lay inside the source and were written to `base` for now."""


def text_of(value: object, name: str) -> str:
    """`value` as the text that a CSV would hold; empty for None.

    Raises:
        FaultError: it is neither text nor a number, or text that UTF-8 cannot hold.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FaultError(f"{name} is a {type(value).__name__}", f"write {name} as text")
    text = str(value)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise FaultError(f"{name} holds half of a character pair", "write the file again as UTF-8")
    return text


def named_fields(entry: Mapping[str, Any], *, only: tuple[str, ...] = tuple(NAMES)) -> dict[str, str]:
    """The fields `only` of an entry, as text, under the names of `SourceRow`.

    Raises:
        FaultError: a value of a type that the field cannot have.
    """
    fields = {}
    for name in only:
        spelt = next((spelling for spelling in NAMES[name] if entry.get(spelling) is not None), None)
        value = entry[spelt] if spelt else None
        fields[name] = _findings_text(value) if name == "findings" else text_of(value, spelt or name)
    return fields


def read_entry(where: str, read: Callable[[], SourceRow]) -> SourceRow:
    """What `read` returns, or a row that holds its fault."""
    try:
        return read()
    except FaultError as error:
        return SourceRow(where=where, fault=error.fault)


def _findings_text(value: object) -> str:
    """Findings as a JSON object: from text, a mapping (values of None left out), or a list of name and value."""
    if isinstance(value, list) and all(isinstance(pair, dict) and {"name", "value"} <= pair.keys() for pair in value):
        value = {str(pair["name"]): pair["value"] for pair in value}
    if isinstance(value, Mapping):
        stated = {str(name): text_of(found, "findings") for name, found in value.items() if found is not None}
        return text_of(json.dumps(stated, ensure_ascii=False), "findings") if stated else ""
    return text_of(value, "findings")
