"""What a run over a folder of slides has written."""

import csv
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd


def table(out: Path) -> dict[str, dict[str, str]]:
    """Rows of slides.csv by slide."""
    with (out / "slides.csv").open(newline="", encoding="utf-8") as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


def predictions(out: Path, slide: str) -> pd.DataFrame:
    """One row per patch of the slide."""
    return pd.read_parquet(out / "predictions" / f"{slide}.parquet")


def changed(out: Path, slide: str) -> int:
    """When the predictions of the slide were written, in nanoseconds."""
    return (out / "predictions" / f"{slide}.parquet").stat().st_mtime_ns


def hdf5(path: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    with h5py.File(path, "r") as file:
        for name in file:
            found[name] = file[name][...].tobytes()
            found |= {f"{name}.{key}": np.asarray(value).tolist() for key, value in file[name].attrs.items()}
    return found


def same_results(out: Path, expected: Path) -> None:
    """Assert that both folders hold the same, but for times."""
    for kind in ("predictions", "tiles", "geojson", "hdf5"):
        names = {path.relative_to(expected) for path in (expected / kind).rglob("*") if path.is_file()}
        assert {path.relative_to(out) for path in (out / kind).rglob("*") if path.is_file()} == names
        assert names
        for name in names:
            if kind == "hdf5":
                assert hdf5(out / name) == hdf5(expected / name), name
            else:
                assert (out / name).read_bytes() == (expected / name).read_bytes(), name
    assert rows(out) == rows(expected)
    assert pages(out) == pages(expected)
    # Nothing is left of what was in work.
    assert not (out / "partial").exists()
    assert not list((out / "slides").rglob(".*"))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "slides.csv").open(newline="", encoding="utf-8") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def pages(out: Path) -> dict[Path, str]:
    """Page of every slide, without how long the slide took."""
    found = sorted((out / "slides").rglob("*.html"))
    return {
        path.relative_to(out): re.sub(r"[\d.,]+ (s|min|h)\b", "", path.read_text(encoding="utf-8")) for path in found
    }
