"""Check what the rows of a source state, apart from their images, and turn it into the columns of a manifest."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd

from data.config import PrepareConfig
from data.manifest import SPLITS
from data.mpp import HIGHEST_MPP, LOWEST_MPP
from data.problems import Problems, one_line
from data.sources.row import Source
from data.taxonomy import Taxonomy

# Beyond this a whole number is not exact in the column of a table.
LARGEST_PX = 2**53


def check_rows(source: Source, config: PrepareConfig, taxonomy: Taxonomy, problems: Problems) -> pd.DataFrame:
    """The readable rows with typed columns (None where empty) beside `where` and `file_name`; mistakes are noted.

    `patch_id` is the image's path relative to the source, and `patient_id` is as the source states it.
    """
    _note_faults(source, problems)
    rows = pd.DataFrame([vars(row) for row in source.rows if row.fault is None])
    if rows.empty:
        return rows
    text = rows.drop(columns="fault").map(str.strip)
    text["file_name"] = rows["file_name"]
    optional = text.astype(object).where(text != "", None)
    patch_id = [_patch_id(name, source) for name in text["file_name"]]
    repeated = pd.Series(patch_id).duplicated() & (text["file_name"] != "")
    place = text["where"]
    problems.mark(place, text["file_name"].str.strip() == "", "file_name is empty", "fill it in or remove the row")
    problems.mark(place, repeated, "file_name occurs a second time", "keep one row per patch")
    _check_label(text, source, taxonomy, problems)
    _check_description(text, source, config, problems)
    frame = pd.DataFrame(
        {
            "where": place,
            "file_name": text["file_name"],
            "patch_id": patch_id,
            "slide_id": optional["slide_id"],
            "patient_id": optional["patient_id"],
            "x": _pixels(optional, "x", problems),
            "y": _pixels(optional, "y", problems),
            "mpp": _number(optional, "mpp", problems),
            "label": optional["label"],
            "description": optional["description"],
            "findings": _findings(optional, taxonomy, problems),
            "split": optional["split"],
            "site": optional["site"],
        }
    )
    implausible = frame["mpp"].notna() & ~frame["mpp"].between(LOWEST_MPP, HIGHEST_MPP)
    plausible = f"give µm per pixel, {LOWEST_MPP:g} to {HIGHEST_MPP:g}"
    problems.mark(place, implausible, "mpp is implausible", plausible)
    _check_split(frame, problems)
    return frame


def check_patients_of_splits(frame: pd.DataFrame, problems: Problems) -> None:
    """Note every patient with rows in more than one given split."""
    known = frame.dropna(subset=["patient_id", "split"])
    splits = known.groupby("patient_id")["split"].unique()
    cases = []
    for patient, given in splits[splits.map(len) > 1].items():
        place = known["where"][known["patient_id"] == patient].iloc[0]
        cases.append((place, f"patient {patient} is in the splits {' and '.join(sorted(given))}"))
    problems.add(cases, "put every patient in one split only", unit="patients")


def _note_faults(source: Source, problems: Problems) -> None:
    faulty = [row for row in source.rows if row.fault is not None]
    # "not JSON (column 17)" and "not JSON (column 3)" are one kind.
    kinds = Counter(row.fault.what.partition(" (")[0] for row in faulty if row.fault)
    for kind in kinds:
        cases = [row for row in faulty if row.fault and row.fault.what.partition(" (")[0] == kind]
        fault = cases[0].fault
        assert fault is not None
        problems.add([(row.where, row.fault.what) for row in cases if row.fault], fault.remedy)


def _patch_id(name: str, source: Source) -> str:
    path = Path(name)
    for folder in (source.base, source.path, source.path.parent):
        if path.is_absolute() and path.is_relative_to(folder.absolute()):
            path = path.relative_to(folder.absolute())
    return path.as_posix()


def _check_label(text: pd.DataFrame, source: Source, taxonomy: Taxonomy, problems: Problems) -> None:
    if "label" not in source.columns:
        return
    empty = text["label"] == ""
    problems.mark(text["where"], empty, "label is empty", "fill it in or remove the row")
    unknown = text[~text["label"].isin(taxonomy.class_names) & ~empty]
    what = [f"label {one_line(label)} is not a class of {taxonomy.name}" for label in unknown["label"]]
    problems.add(zip(unknown["where"], what, strict=True), f"use one of {', '.join(taxonomy.class_names)}")


def _check_description(text: pd.DataFrame, source: Source, config: PrepareConfig, problems: Problems) -> None:
    if "description" not in source.columns or config.descriptions == "optional":
        return
    empty = text[text["description"] == ""]
    what = [f"the description of {name} is empty" for name in empty["file_name"]]
    remedy = "write one, or pass --descriptions optional to keep such rows out of fine-tuning"
    problems.add(zip(empty["where"], what, strict=True), remedy)


def _check_split(frame: pd.DataFrame, problems: Problems) -> None:
    unknown = frame["split"].notna() & ~frame["split"].isin(SPLITS)
    problems.mark(frame["where"], unknown, "split is unknown", f"use {', '.join(SPLITS)}")
    if frame["split"].notna().any():
        remedy = "fill it in every row or remove the column"
        problems.mark(frame["where"], frame["split"].isna(), "split is empty", remedy)


def _number(optional: pd.DataFrame, column: str, problems: Problems) -> pd.Series:
    values = pd.to_numeric(optional[column], errors="coerce").astype(float)
    wrong = optional[column].notna() & values.isna()
    problems.mark(optional["where"], wrong, f"{column} is not a number", "correct it or leave it empty")
    return values


def _pixels(optional: pd.DataFrame, column: str, problems: Problems) -> pd.Series:
    values = _number(optional, column, problems)
    wrong = values.notna() & ((values % 1 != 0) | (values.abs() >= LARGEST_PX))
    problems.mark(optional["where"], wrong, f"{column} is not a whole number", "give level-0 pixels")
    return values.mask(wrong).astype("Int64")


def _findings(optional: pd.DataFrame, taxonomy: Taxonomy, problems: Problems) -> list[dict[str, str] | None]:
    """Findings of each row; None where there are none, or none that can be used."""
    found: list[dict[str, str] | None] = []
    wrong: dict[str, list[tuple[str, str]]] = {}
    for place, text in zip(optional["where"], optional["findings"], strict=True):
        stated, mistakes = _read_findings(text, taxonomy)
        found.append(stated)
        for remedy, what in mistakes:
            wrong.setdefault(remedy, []).append((place, what))
    for remedy, cases in wrong.items():
        problems.add(cases, remedy)
    return found


def _read_findings(text: str | None, taxonomy: Taxonomy) -> tuple[dict[str, str] | None, list[tuple[str, str]]]:
    """The findings in `text`, and (remedy, mistake) where they cannot be used."""
    if text is None:
        return None, []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, [("write an object or nothing", f"findings is not JSON ({error})")]
    if not isinstance(found, dict):
        return None, [("write an object or nothing", "findings must be a JSON object of finding names and values")]
    mistakes = []
    for name, value in found.items():
        if name not in taxonomy.findings:
            mistakes.append((f"use {', '.join(taxonomy.findings)}", f"{name} is not a finding of {taxonomy.name}"))
        elif not isinstance(value, str) or value not in taxonomy.findings[name].values:
            known = ", ".join(taxonomy.findings[name].values)
            mistakes.append((f"use {known}", f"{one_line(str(value))} is not a value of {name}"))
    return (None, mistakes) if mistakes else (found, [])
