"""Labelled patches become a manifest: every row is checked before anything is trained on it."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from data.config import PrepareConfig
from data.errors import InputError
from data.image import read_image
from data.manifest import COLUMNS, SPLITS, check_patients_apart, read_manifest, write_manifest
from data.mpp import HIGHEST_MPP, LOWEST_MPP
from data.split import assign_splits
from data.taxonomy import Taxonomy, load_taxonomy


def prepare(config: PrepareConfig) -> Path:
    """Write the manifest that `config` asks for and return its path.

    Raises:
        InputError: the first row that cannot be used, with the number of others like it.
    """
    taxonomy = load_taxonomy(config.taxonomy)
    rows = _read_rows(config.source)
    _check_text(rows, config, taxonomy)
    sizes = _check_images(rows, config.source)
    frame = _frame(rows, sizes, config, taxonomy)
    if frame["split"].isna().all():
        frame["split"] = assign_splits(
            frame,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            seed=config.seed,
            source=config.source,
        )
    elif frame["split"].isna().any():
        line = int(frame["split"].isna().to_numpy().argmax()) + 2
        raise InputError(f"{config.source}, line {line}: split is empty; fill it in every row or remove the column")
    check_patients_apart(frame, source=config.source)
    _write_once(frame, config.out)
    print(summary(frame, taxonomy))
    return config.out


def summary(frame: pd.DataFrame, taxonomy: Taxonomy) -> str:
    """Patches per split and class, with the number of patients and of descriptions."""
    table = pd.crosstab(frame["split"], frame["label"]).reindex(columns=list(taxonomy.class_names), fill_value=0)
    table.insert(0, "patients", frame.groupby("split")["patient_id"].nunique())
    table.insert(1, "described", frame["description"].notna().groupby(frame["split"]).sum())
    return table.reindex([split for split in ("train", "val", "test") if split in table.index]).to_string()


def _read_rows(source: Path) -> pd.DataFrame:
    if not source.is_file():
        raise InputError(f"{source}: no such file; give a CSV with the columns file_name, patient_id, label")
    try:
        rows = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: not a CSV file in UTF-8 ({error})") from error
    if "label" not in rows:
        rows = rows.rename(columns={"class": "label"})
    for column in ("file_name", "patient_id", "label"):
        if column not in rows:
            raise InputError(
                f"{source}: column {column} is missing (found: {', '.join(rows.columns)}); add it to the CSV"
            )
    if rows.empty:
        raise InputError(f"{source}: the CSV has no rows; add one row per patch")
    return rows


def _refuse(source: Path, wrong: "pd.Series[bool]", what: str, remedy: str) -> None:
    """Raise for the first row marked in `wrong`, giving its line in the CSV and the number of others."""
    count = int(wrong.sum())
    if count:
        line = int(wrong.to_numpy().argmax()) + 2
        others = f" (and {count - 1} more rows)" if count > 1 else ""
        raise InputError(f"{source}, line {line}: {what}{others}; {remedy}")


def _check_text(rows: pd.DataFrame, config: PrepareConfig, taxonomy: Taxonomy) -> None:
    source = config.source
    for column in ("file_name", "patient_id", "label"):
        _refuse(source, rows[column].str.strip() == "", f"{column} is empty", "fill it in or remove the row")
    repeated = rows["file_name"].map(lambda name: Path(name).as_posix()).duplicated()
    _refuse(source, repeated, "file_name occurs a second time", "keep one row per patch")
    unknown = ~rows["label"].isin(taxonomy.class_names)
    label = rows["label"][unknown].iloc[0] if unknown.any() else ""
    classes = ", ".join(taxonomy.class_names)
    _refuse(source, unknown, f"label {label} is not a class of {taxonomy.name}", f"use one of {classes}")
    if "description" in rows and config.descriptions == "required":
        empty = rows["description"].str.strip() == ""
        name = rows["file_name"][empty].iloc[0] if empty.any() else ""
        remedy = "write one, or pass --descriptions optional to keep such rows out of fine-tuning"
        _refuse(source, empty, f"the description of {name} is empty", remedy)


def _check_images(rows: pd.DataFrame, source: Path) -> list[int]:
    """Decode every image; return their side lengths in px."""
    paths = [source.parent / name for name in rows["file_name"]]

    def side(path: Path) -> int | InputError:
        try:
            return max(read_image(path).shape[:2])
        except InputError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sides = list(tqdm(pool.map(side, paths), total=len(paths), desc="Checking images", unit="image"))
    broken = [result for result in sides if isinstance(result, InputError)]
    if broken:
        others = f" (and {len(broken) - 1} more images)" if len(broken) > 1 else ""
        raise InputError(f"{broken[0]}{others}")
    return [result for result in sides if isinstance(result, int)]


def _frame(rows: pd.DataFrame, sizes: list[int], config: PrepareConfig, taxonomy: Taxonomy) -> pd.DataFrame:
    base = config.source.parent.resolve()
    home = config.out.parent.resolve()

    def optional(column: str) -> pd.Series:
        if column not in rows:
            return pd.Series([None] * len(rows), dtype=object)
        return rows[column].str.strip().astype(object).where(rows[column].str.strip() != "", None)

    def number(column: str) -> pd.Series:
        text = optional(column)
        values = pd.to_numeric(text, errors="coerce")
        _refuse(
            config.source, text.notna() & values.isna(), f"{column} is not a number", "correct it or leave it empty"
        )
        return values

    x, y, mpp = number("x"), number("y"), number("mpp")
    for name, values in (("x", x), ("y", y)):
        broken = values.notna() & (values % 1 != 0)
        _refuse(config.source, broken, f"{name} is not a whole number", "give level-0 pixels")
    implausible = mpp.notna() & ~mpp.between(LOWEST_MPP, HIGHEST_MPP)
    _refuse(config.source, implausible, "mpp is implausible", f"give µm per pixel, {LOWEST_MPP:g} to {HIGHEST_MPP:g}")
    split = optional("split")
    unknown = split.notna() & ~split.isin(SPLITS)
    _refuse(config.source, unknown, "split is unknown", f"use {', '.join(SPLITS)}")
    frame = pd.DataFrame(
        {
            "patch_id": [Path(name).as_posix() for name in rows["file_name"]],
            "image": [Path(os.path.relpath(base / name, home)).as_posix() for name in rows["file_name"]],
            "slide_id": optional("slide_id"),
            "patient_id": rows["patient_id"].str.strip(),
            "x": x.astype("Int64"),
            "y": y.astype("Int64"),
            "size_px": sizes,
            "mpp": mpp,
            "label": rows["label"],
            "description": optional("description"),
            "findings": [
                _findings(text, f"{config.source}, line {line}", taxonomy)
                for line, text in enumerate(optional("findings"), 2)
            ],
            "split": split,
        }
    )
    return frame.loc[:, list(COLUMNS)]


def _findings(text: str | None, where: str, taxonomy: Taxonomy) -> dict[str, str] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: findings is not JSON ({error}); write an object or nothing") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: findings must be a JSON object of finding names and values")
    for name, value in found.items():
        if name not in taxonomy.findings:
            known = ", ".join(taxonomy.findings)
            raise InputError(f"{where}: {name} is not a finding of {taxonomy.name}; use {known}")
        if value not in taxonomy.findings[name].values:
            known = ", ".join(taxonomy.findings[name].values)
            raise InputError(f"{where}: {value} is not a value of {name}; use {known}")
    return found


def _write_once(frame: pd.DataFrame, out: Path) -> None:
    """Write the manifest; one that exists must hold the same rows, so that a split is never changed unnoticed."""
    if not out.exists():
        write_manifest(frame, out)
        return
    columns = ["patch_id", "patient_id", "label", "description", "split"]
    known, new = read_manifest(out)[columns], frame[columns].astype(object).where(frame[columns].notna(), None)
    if known.astype(object).to_dict("records") != new.to_dict("records"):
        raise InputError(f"{out}: holds a manifest of other rows or splits; choose another --out or remove it")
