"""A drawn run with one page of each kind."""

from pathlib import Path

from drawn_run import draw_slide, read_any, write_run

import mmlnb
from data.taxonomy import load_taxonomy
from mmlnb.pages.folder_page import write_folder_page
from mmlnb.pages.slide_page import write_slide_page
from mmlnb.slide_record import read_records

TAXONOMY = load_taxonomy()
PAGES = ("report/index.html", "report/training.html", "infer/index.html", "infer/slides/folder/a b.svs.html")


def write_pages(run: Path) -> Path:
    """Write a run into the folder `run`, and `PAGES` in it; returns `run`."""
    write_run(run)
    mmlnb.report(run)
    write_folder_page(read_records(run / "infer"), run / "infer", taxonomy=TAXONOMY, notice="")
    write_slide_page(
        draw_slide(TAXONOMY), run / PAGES[3], taxonomy=TAXONOMY, notice="", read=read_any(draw_slide(TAXONOMY))
    )
    return run
