"""How long the report of a cohort takes to write, and how large it is; one JSON line last."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data.taxonomy import load_taxonomy
from mmlnb.config import ReportConfig
from mmlnb.pages.run_page import report
from mmlnb.pages.slide_page import write_slide_page

# The folders that the tests draw are of the same form as those that the stages write.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "mmlnb"))
from drawn_run import draw_slide, read_any, write_run


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=200, help="slides of the cohort, one in ten of them failed")
    parser.add_argument("--patches", type=int, default=10_000, help="patches of the one slide whose page is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), slides=arguments.slides, patches=arguments.patches)))


def measure(folder: Path, *, slides: int, patches: int) -> dict[str, Any]:
    """Write the report of a drawn cohort, and the page of one drawn slide."""
    run = write_run(folder / "run", slides=slides, failed=slides // 10, patients=slides)
    started = time.perf_counter()
    report(ReportConfig(run=run))
    seconds = time.perf_counter() - started
    slide = draw_slide(load_taxonomy(), columns=round(patches**0.5))
    started = time.perf_counter()
    page = folder / "slide" / "a.html"
    write_slide_page(slide, page, taxonomy=load_taxonomy(), notice="", read=read_any(slide))
    slide_seconds = time.perf_counter() - started
    return {
        "name": "report",
        "slides": slides,
        "seconds": round(seconds, 2),
        "megabytes": {path.name: _megabytes(path) for path in sorted((run / "report").iterdir())},
        "megabytes_together": round(sum(map(_megabytes, (run / "report").iterdir())), 3),
        "slide_patches": len(slide.tiles),
        "slide_seconds": round(slide_seconds, 2),
        "slide_megabytes": {path.name: _megabytes(path) for path in sorted(page.parent.iterdir())},
    }


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 3)


if __name__ == "__main__":
    main()
