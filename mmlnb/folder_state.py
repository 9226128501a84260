"""Where a run over a folder stands, for people and spreadsheets: slides.csv and summary.md."""

import csv
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Self

import pandas as pd

from data.atomic import atomic, write_text
from data.errors import InputError
from data.taxonomy import Taxonomy
from mmlnb.slide_record import SlideRecord, find_record, read_records


class FolderState:
    """Writes the two files again and again, at most once in `seconds`, since each reads all records.

    What comes sooner is written in the background when it is time: the slide that is next may take hours. As a context
    manager it leaves the files as the records are at the end.
    """

    def __init__(
        self, out: Path, *, slides: Sequence[str], class_names: Sequence[str], notice: str = "", seconds: float = 2.0
    ) -> None:
        self._out = out
        self._slides = slides
        self._class_names = class_names
        self._notice = notice
        self._seconds = seconds
        self._started = time.monotonic()
        self._before = len(self.records())
        self._next = 0.0
        self._working: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.update({}, now=True)
        else:
            # The disk may be full, and what was raised says why the run ended.
            with suppress(OSError, InputError):
                self.update({}, now=True)

    def records(self) -> list[SlideRecord]:
        """Records of the slides of this run, by whichever process."""
        known = set(self._slides)
        return [record for record in read_records(self._out) if record.slide in known]

    def update(self, working: dict[str, str], *, now: bool = False) -> None:
        """Bring both files up to date; `working` is slide to who is at it."""
        with self._lock:
            self._working = working
            wait = self._next - time.monotonic()
            if now or wait <= 0:
                self._cancel()
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self._write_later)
                self._timer.daemon = True
                self._timer.start()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_later(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return
            self._timer = None
            # The next update raises it, in the thread that can do something about it.
            with suppress(OSError, InputError):
                self._write()

    def _write(self) -> None:
        began = time.monotonic()
        records = self.records()
        self._write_csv(records)
        write_text(self._out / "summary.md", self._summary(records, self._working))
        # With thousands of slides the files take long to write: no more than a twentieth of the time goes there.
        self._next = time.monotonic() + max(self._seconds, 20 * (time.monotonic() - began))

    def _write_csv(self, records: Sequence[SlideRecord]) -> None:
        columns = [
            *("slide", "status", "reason", "subtype"),
            *(f"p_{name}" for name in self._class_names),
            *(f"mean_p_{name}" for name in self._class_names),
            *("patches", "captioned", "unreadable", "mpp", "mpp_origin", "seconds", "attempts", "notice"),
        ]
        with (
            atomic(self._out / "slides.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for record in records:
                row = asdict(record)
                row |= {f"p_{name}": f"{value:.6f}" for name, value in record.probabilities.items()}
                row |= {f"mean_p_{name}": f"{value:.6f}" for name, value in record.mean_probabilities.items()}
                writer.writerow(row | {"seconds": f"{record.seconds:.2f}", "mpp": record.mpp or ""})

    def _summary(self, records: Sequence[SlideRecord], working: dict[str, str]) -> str:
        statuses = Counter(record.status for record in records)
        left = len(self._slides) - len(records)
        elapsed = time.monotonic() - self._started
        lines = [
            f"# {len(records)} of {len(self._slides)} slides done",
            "",
            f"{statuses['ok']} called, {statuses['failed']} failed, {statuses['skipped']} skipped, {left} to do.",
            "",
            f"For research use only. {self._notice}".rstrip(),
            "",
        ]
        done_here = len(records) - self._before
        if left and done_here > 0:
            lines += [
                f"{_duration(elapsed)} in this run, {_duration(elapsed / done_here)} per slide, "
                f"about {_duration(elapsed / done_here * left)} left.",
                "",
            ]
        if working and left:
            lines += ["In work:", "", *(f"- {slide} ({who})" for slide, who in sorted(working.items())), ""]
        missed = [record for record in records if record.status != "ok"]
        if missed:
            lines += ["| slide | status | reason | attempts |", "|---|---|---|---|"]
            lines += [f"| {_cell(r.slide)} | {r.status} | {_cell(r.reason)} | {r.attempts} |" for r in missed]
            lines += [""]
        remarks = [record for record in records if record.status == "ok" and record.reason]
        if remarks:
            lines += ["| slide | called, but |", "|---|---|"]
            lines += [f"| {_cell(record.slide)} | {_cell(record.reason)} |" for record in remarks]
            lines += [""]
        return "\n".join(lines)


class SilentState:
    """Stands in where another process writes the two files: it knows the records of `slides`, and writes nothing."""

    def __init__(self, out: Path, *, slides: Sequence[str]) -> None:
        self._out = out
        self._slides = slides

    def records(self) -> list[SlideRecord]:
        """Records of `slides`, by whichever process; no others are read."""
        found = (find_record(self._out, slide) for slide in self._slides)
        return [record for record in found if record is not None]

    def update(self, working: dict[str, str], *, now: bool = False) -> None:
        """Nothing."""


def records_table(records: Sequence[SlideRecord], taxonomy: Taxonomy) -> str:
    """The slides of a run as text for a terminal, with a line of counts."""
    rows = pd.DataFrame(
        [
            {
                "slide": record.slide,
                "status": record.status,
                "subtype": record.subtype or "-",
                **{
                    f"p {name}": f"{record.probabilities[name]:.2f}" if record.probabilities else "-"
                    for name in taxonomy.class_names
                },
                "patches": record.patches,
                "seconds": f"{record.seconds:.1f}",
            }
            for record in records
        ]
    )
    counts = rows["status"].value_counts().to_dict()
    return rows.to_string(index=False) + "\n" + ", ".join(f"{count} {status}" for status, count in counts.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
