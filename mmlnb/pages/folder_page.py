"""The page of a folder: every slide with its call, or the reason why there is none."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from data.taxonomy import Taxonomy
from mmlnb.pages.beside import write_beside
from mmlnb.pages.page import write_page
from mmlnb.palette import class_colours, css
from mmlnb.slide_record import SlideRecord


def write_folder_page(records: Sequence[SlideRecord], out: Path, *, taxonomy: Taxonomy, notice: str) -> None:
    """Write `out/index.html`, linking the page of each called slide, with JSON and CSV beside it."""
    page = out / "index.html"
    write_page(
        "folder.html.j2",
        page,
        records=records,
        notice=notice,
        taxonomy=taxonomy,
        colours={name: css(colour) for name, colour in class_colours(taxonomy).items()},
        slides_folder="slides",
    )
    slides = slide_values(records)
    write_beside(page, {"notice": notice, "slides": slides}, {"": slide_frame(records, taxonomy)})


def slide_values(records: Sequence[SlideRecord], truth: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The slides as JSON holds them, with their known class where `truth` has it."""
    return [
        asdict(record) | ({"truth": truth[record.slide]} if truth and record.slide in truth else {})
        for record in records
    ]


def slide_frame(
    records: Sequence[SlideRecord], taxonomy: Taxonomy, truth: dict[str, str] | None = None
) -> pd.DataFrame:
    """The slides as a table, with the columns of the page's own."""
    truths = {"truth": [truth.get(record.slide) for record in records]} if truth else {}
    return pd.DataFrame(
        {
            "slide": [record.slide for record in records],
            "status": [record.status for record in records],
            "subtype": [record.subtype or None for record in records],
            **truths,
            **{f"p_{name}": [record.probabilities.get(name) for record in records] for name in taxonomy.class_names},
            "patches": [record.patches for record in records],
            "captioned": [record.captioned for record in records],
            "mpp": [record.mpp for record in records],
            "mpp_origin": [record.mpp_origin or None for record in records],
            "seconds": [round(record.seconds, 2) for record in records],
            "attempts": [record.attempts for record in records],
            "reason": [record.reason or None for record in records],
            "notice": [record.notice or None for record in records],
        }
    )
