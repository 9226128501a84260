"""What is known of each slide of a run: one small JSON file as the mark that it is done, and the CSV made from all."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from data.atomic import atomic, write_json

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class SlideRecord:
    """Outcome of one slide."""

    slide: str
    """Path below the input folder."""
    status: Status
    reason: str = ""
    """Why it was not called, or what was odd about it; empty for none."""
    subtype: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    """Class to probability, patches weighted by tissue."""
    mean_probabilities: dict[str, float] = field(default_factory=dict)
    """Class to plain mean probability."""
    patches: int = 0
    captioned: int = 0
    unreadable: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason to number of tiles left out."""
    mpp: float | None = None
    mpp_origin: str = ""
    seconds: float = 0.0
    file: str = ""
    """What tells that the slide's file is still the same (see `file_stamp`)."""


def file_stamp(path: Path) -> str:
    """Size and time of change of a file: a slide that was replaced is computed again; empty where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        # Opening it says why; a file that has gone must not stop the others.
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def read_records(folder: Path) -> list[SlideRecord]:
    """Records of all slides that a run in `folder` has finished, sorted by slide."""
    files = (folder / "records").rglob("*.json")
    return sorted((_read(file) for file in files if not file.name.startswith(".")), key=lambda record: record.slide)


def _read(file: Path) -> SlideRecord:
    return SlideRecord(**json.loads(file.read_text(encoding="utf-8")))


class SlideRecords:
    """The records of an output folder, in the order of the slides."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.class_names = class_names
        self._records: dict[str, SlideRecord] = {}

    def find(self, slide: str) -> SlideRecord | None:
        """Record of a slide that an earlier run of the same settings finished, if there is one."""
        path = self._path(slide)
        if slide not in self._records and path.is_file():
            self._records[slide] = _read(path)
        return self._records.get(slide)

    def add(self, record: SlideRecord) -> None:
        """Store `record`, and bring slides.csv up to date."""
        write_json(self._path(record.slide), asdict(record))
        self._records[record.slide] = record
        self.write_csv()

    def all(self) -> list[SlideRecord]:
        """Every record, sorted by slide."""
        return [self._records[slide] for slide in sorted(self._records)]

    def write_csv(self) -> None:
        """Write slides.csv, one row per slide."""
        columns = [
            *("slide", "status", "reason", "subtype"),
            *(f"p_{name}" for name in self.class_names),
            *(f"mean_p_{name}" for name in self.class_names),
            *("patches", "captioned", "unreadable", "mpp", "mpp_origin", "seconds"),
        ]
        with (
            atomic(self.folder / "slides.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for record in self.all():
                row = asdict(record)
                row |= {f"p_{name}": f"{value:.6f}" for name, value in record.probabilities.items()}
                row |= {f"mean_p_{name}": f"{value:.6f}" for name, value in record.mean_probabilities.items()}
                writer.writerow(row | {"seconds": f"{record.seconds:.2f}", "mpp": record.mpp or ""})

    def _path(self, slide: str) -> Path:
        return self.folder / "records" / f"{slide}.json"
