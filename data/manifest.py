"""The manifest: one row per patch, as Parquet with a fixed schema, checked whenever it is read."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic
from data.errors import InputError

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "val", "test")
COLUMNS = (
    "patch_id",
    "image",
    "slide_id",
    "patient_id",
    "x",
    "y",
    "size_px",
    "mpp",
    "label",
    "description",
    "findings",
    "split",
    "site",
    "pixel_hash",
    "perceptual_hash",
)
HASHES = ("pixel_hash", "perceptual_hash")
LATER_COLUMNS = ("site", *HASHES)
"""Columns that older manifests lack; read as None."""


def features() -> "datasets.Features":
    """Schema of `patches.parquet`; findings are a list of name and value, since the names are the taxonomy's.

    `site` is where the patient was treated; `pixel_hash` and `perceptual_hash` are those of the image.
    """
    from datasets import Features, List, Value

    text, whole = Value("string"), Value("int64")
    return Features(
        {
            "patch_id": text,
            "image": text,
            "slide_id": text,
            "patient_id": text,
            "x": whole,
            "y": whole,
            "size_px": whole,
            "mpp": Value("float64"),
            "label": text,
            "description": text,
            "findings": List({"name": text, "value": text}),
            "split": text,
            "site": text,
            "pixel_hash": text,
            "perceptual_hash": text,
        }
    )


def write_manifest(frame: pd.DataFrame, path: Path) -> None:
    """Write `frame` (the columns of `features()`, findings as dict or None) to `path` atomically.

    `LATER_COLUMNS` may be missing from it.
    """
    absent = [column for column in LATER_COLUMNS if column not in frame.columns]
    rows = frame.assign(**dict.fromkeys(absent)).loc[:, list(COLUMNS)]
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    for record in records:
        found = record["findings"]
        record["findings"] = None if found is None else [{"name": str(k), "value": str(v)} for k, v in found.items()]
    table = pa.Table.from_pylist(records, schema=features().arrow_schema)
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read and check a manifest; findings come as dict or None, missing text as None.

    Raises:
        InputError: not a manifest, no rows, a repeated `patch_id`, an unknown split, or a patient in two splits.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; make one with `mmlnb prepare`")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet manifest; make one with `mmlnb prepare`") from error
    missing = [column for column in COLUMNS if column not in (*table.column_names, *LATER_COLUMNS)]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; make the manifest with `mmlnb prepare`")
    frame = table.select([column for column in COLUMNS if column in table.column_names]).to_pandas(types_mapper=None)
    for column in set(LATER_COLUMNS) - set(frame.columns):
        frame[column] = None
    frame = frame[list(COLUMNS)]
    if frame.empty:
        raise InputError(f"{path}: the manifest has no rows; prepare it again from a folder with images")
    frame["findings"] = [
        None if found is None else {entry["name"]: entry["value"] for entry in found} for found in frame["findings"]
    ]
    for column in ("image", "slide_id", "patient_id", "label", "description", "split", *LATER_COLUMNS):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    repeated = frame["patch_id"][frame["patch_id"].duplicated()]
    if len(repeated):
        raise InputError(f"{path}: patch_id {repeated.iloc[0]} occurs more than once; ids must be unique")
    unknown = sorted(set(frame["split"].dropna()) - set(SPLITS))
    if unknown:
        raise InputError(f"{path}: split {unknown[0]} is unknown; use {', '.join(SPLITS)}")
    check_patients_apart(frame, source=path)
    return frame


def check_patients_apart(frame: pd.DataFrame, *, source: Path, column: str = "patient_id") -> None:
    """Raise InputError naming the first patient, or whatever `column` holds, found in more than one split."""
    assigned = frame.dropna(subset=[column, "split"])
    per_patient = assigned.groupby(column)["split"].unique()
    shared = per_patient[per_patient.map(len) > 1]
    if len(shared):
        splits, what = " and ".join(sorted(shared.iloc[0])), column.removesuffix("_id")
        raise InputError(
            f"{source}: {what} {shared.index[0]} is in the splits {splits}; put every {what} in one split only"
        )


def image_path(manifest: Path, image: str) -> Path:
    """Absolute path of a patch image; `image` is relative to the manifest's folder."""
    return (manifest.parent / image).resolve()


def relative_image(image: Path, home: Path) -> str:
    """`image` as a manifest in the folder `home` names it."""
    return Path(os.path.relpath(image.absolute(), home.resolve())).as_posix()
