"""What is known of each slide of a run: one small JSON file as the mark that it is done."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from data.atomic import digest, write_json

# A file system takes 255 bytes, and outputs and temporary files put something before and behind the name.
LONGEST_NAME_BYTES = 200

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
    borrowed: int = 0
    """Patches that were fused with the caption of another."""
    choice: str = ""
    """How the patches to describe were chosen; empty where all were, or none."""
    unreadable: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason to number of tiles left out."""
    mpp: float | None = None
    mpp_origin: str = ""
    vendor: str = ""
    """Format of the file, as its reader calls it."""
    stain: str = ""
    """How the colours were normalised: method, the slide's stain and the reference; empty for not at all."""
    notice: str = ""
    """What every output made with the bundle says."""
    seconds: float = 0.0
    """Of the attempt that ended it."""
    attempts: int = 1
    file: str = ""
    """What tells that the slide's file is still the same (see `file_stamp`)."""
    stated_mpp: float | None = None
    """Resolution that the slide manifest gave."""
    usual_mpp: float | None = None
    """Resolution that the command line gave for slides without."""
    any_stain: bool = False
    """Whether it was to be used whatever its stain."""

    def settles(self, *, file: str, stated_mpp: float | None, usual_mpp: float | None, any_stain: bool) -> bool:
        """Whether the slide need not be done again: same file, and nothing was stated since that concerns it."""
        if (self.file, self.stated_mpp) != (file, stated_mpp):
            return False
        if self.usual_mpp != usual_mpp and self.mpp_origin not in ("file", "manifest"):
            return False
        return self.any_stain == any_stain or self.status == "ok"


def file_stamp(path: Path) -> str:
    """Size and time of change of a file: a slide that was replaced is computed again; empty where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        # Opening it says why; a file that has gone must not stop the others.
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


def is_too_long(slide: str) -> bool:
    """Whether a part of the slide's path leaves no room for the names of its outputs."""
    return any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME_BYTES for part in slide.split("/"))


def printable(text: str) -> str:
    """`text` as it can be written: bytes of a file name that are not UTF-8 become escapes such as \\udce4."""
    return text.encode(errors="backslashreplace").decode()


def read_records(folder: Path) -> list[SlideRecord]:
    """Records of all slides that the runs in `folder` have ended, sorted by slide."""
    files = (folder / "records").rglob("*.json")
    records = [(file, _read(file)) for file in files if not file.name.startswith(".")]
    # A record that names another slide than its file would send the outputs elsewhere, out of the folder even.
    known = (record for file, record in records if record is not None and _path(folder, record.slide) == file)
    return sorted(known, key=lambda record: record.slide)


def find_record(folder: Path, slide: str) -> SlideRecord | None:
    """Record of one slide, or None where it has not ended."""
    path = _path(folder, slide)
    # Listed, since an NFS client may remember for a while that a single file was absent.
    if not path.parent.is_dir() or path.name not in {other.name for other in path.parent.iterdir()}:
        return None
    record = _read(path)
    return record if record is not None and record.slide == slide else None


def write_record(folder: Path, record: SlideRecord) -> None:
    """Write `record`, whole or not at all."""
    write_json(_path(folder, record.slide), asdict(record))


def _path(folder: Path, slide: str) -> Path:
    return folder / "records" / f"{digest(slide) if is_too_long(slide) else slide}.json"


def _read(file: Path) -> SlideRecord | None:
    try:
        return SlideRecord(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        # A power cut may leave a file without its content, and another version other fields: the slide is done again.
        return None
