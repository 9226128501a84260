"""How far a folder of captions is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.captions import PATTERN, read_captions


@dataclass(frozen=True)
class CaptionStatus:
    """Counts over the rows that are on disk."""

    folder: Path
    rows: int
    """Rows asked for."""
    described: int
    errors: int
    example: str
    """One of the errors; empty where there is none."""
    flags: dict[str, int]
    """How many texts have each flag."""
    written: Sequence[float]
    """When each part was written, in seconds since 1970."""

    def summary(self) -> str:
        """One line, and a second one while rows are missing."""
        odd = "".join(f", {count} with the flag {flag}" for flag, count in sorted(self.flags.items()))
        retry = f" ({self.example}; --retry-errors describes them again)" if self.errors else ""
        line = (
            f"{self.described} of {self.rows} patches described in {self.folder}, {self.errors} of them with an "
            f"error{retry}{odd}"
        )
        if self.described >= self.rows or not self.written:
            return line
        ago = time.time() - max(self.written)
        line += f"\nlast part written {ago:.0f} s ago"
        span = max(self.written) - min(self.written)
        if span > 0:
            # The first part took time that nothing on disk tells.
            rate = self.described * (len(self.written) - 1) / len(self.written) / span
            left = (self.rows - self.described) / rate / 60
            line += f", {rate:.1f} patches per second so far, about {left:.0f} min left"
        return line


def caption_status(folder: Path, *, rows: int) -> CaptionStatus:
    """Status of the run in `folder` that is to describe `rows` patches; reads only what is on disk."""
    found = read_captions(folder, missing_ok=True, columns=("patch_id", "error", "flags"))
    named = found["flags"].dropna().str.split(",").explode()
    return CaptionStatus(
        folder=folder,
        rows=rows,
        described=len(found),
        errors=int(found["error"].notna().sum()),
        example=next(iter(found["error"].dropna()), ""),
        flags={str(flag): int(count) for flag, count in named[named != ""].value_counts().items()},
        written=[path.stat().st_mtime for path in folder.glob(PATTERN)],
    )
