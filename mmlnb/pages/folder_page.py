"""The page of a folder: every slide with its call, or the reason why there is none."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data.taxonomy import Taxonomy
from mmlnb.pages.page import write_page
from mmlnb.palette import class_colours, css
from mmlnb.slide_record import SlideRecord


def write_folder_page(records: Sequence[SlideRecord], out: Path, *, taxonomy: Taxonomy, notice: str) -> None:
    """Write `out/index.html`, linking the page of each called slide."""
    write_page(
        "folder.html.j2",
        out / "index.html",
        records=records,
        notice=notice,
        taxonomy=taxonomy,
        colours={name: css(colour) for name, colour in class_colours(taxonomy).items()},
        statuses=Counter(record.status for record in records),
        subtypes=Counter(record.subtype for record in records if record.status == "ok"),
        slides_folder="slides",
    )
