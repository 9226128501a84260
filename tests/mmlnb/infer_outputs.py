"""What a run over a folder of slides has written."""

import csv
from pathlib import Path

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
