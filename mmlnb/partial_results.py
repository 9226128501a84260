"""What the models said of a slide so far, on disk, so that a slide that was cut off goes on where it was."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic

# Features wait in memory until they are written; with 1,536 numbers each, 12 MB.
LARGEST_PART = 4096


class TakenOver(Exception):
    """Another process has the slide now, and writes parts of its own."""


class PartialResults:
    """Rows of one slide in the order of its tiles: parts on disk, and the rows since.

    A part holds whole batches only and is named by its first row, so that a later run forms the batches of an
    undisturbed one and gives the same bytes. `key` covers all that decides the rows: parts of another key are removed.
    `held` tells whether the slide is still this process's: parts of two owners begin at the same rows, so one that was
    suspended and wakes must not replace a part of its successor, who may have put more into it.
    """

    def __init__(
        self, folder: Path, *, key: str, seconds: float, held: Callable[[], bool], name: str = "tiles"
    ) -> None:
        self._slide = folder
        self._key = key
        self._folder = folder / key
        self._name = name
        self._beside: PartialResults | None = None
        self._seconds = seconds
        self._held = held
        self._parts: list[Path] = []
        self._rows = 0
        self._new: list[pa.Table] = []
        self._written_at = time.monotonic()
        if folder.is_dir():
            for other in folder.iterdir():
                if other != self._folder:
                    shutil.rmtree(other)
        while (part := self._path()).is_file():
            try:
                rows = pq.read_metadata(part).num_rows
            except (pa.ArrowInvalid, OSError):
                # A power cut may leave a file without its content; what it held is computed again.
                part.unlink()
                break
            self._parts.append(part)
            self._rows += rows

    def __len__(self) -> int:
        return self._rows

    def beside(self, name: str) -> "PartialResults":
        """Rows of another kind of the same slide, which are written and removed together with these."""
        self._beside = PartialResults(self._slide, key=self._key, seconds=self._seconds, held=self._held, name=name)
        return self._beside

    def add(self, rows: pa.Table) -> None:
        """Append the rows of a batch; write what has gathered when it is time (see `write`)."""
        self._new.append(rows)
        self._rows += len(rows)
        due = time.monotonic() - self._written_at >= self._seconds
        if due or sum(map(len, self._new)) >= LARGEST_PART:
            self.write()

    def write(self) -> None:
        """Write the rows that are not on disk yet; raises TakenOver where the slide is no longer this process's."""
        if self._beside is not None:
            self._beside.write()
        if not self._new:
            return
        if not self._held():
            raise TakenOver(str(self._folder))
        rows = pa.concat_tables(self._new)
        self._rows -= len(rows)
        part = self._path()
        self._rows += len(rows)
        with atomic(part) as temporary:
            pq.write_table(rows, temporary)
        self._parts.append(part)
        self._new = []
        self._written_at = time.monotonic()

    def table(self, columns: list[str]) -> pa.Table:
        """Return `columns` of all rows."""
        return pa.concat_tables(self._each(columns)).combine_chunks()

    def column(self, name: str) -> Iterator[pa.ChunkedArray]:
        """Yield one column part by part, for what is too large to hold."""
        for table in self._each([name]):
            yield table[name]

    def matrix(self, name: str, *, rows: int) -> np.ndarray:
        """The lists of one column as a matrix (rows, D), without the empty ones of what could not be read."""
        flat = [column.combine_chunks().flatten().to_numpy(zero_copy_only=False) for column in self.column(name)]
        return np.concatenate(flat).reshape(rows, -1)

    def remove(self) -> None:
        """Remove everything: the results are elsewhere."""
        shutil.rmtree(self._slide, ignore_errors=True)

    def _each(self, columns: list[str]) -> Iterator[pa.Table]:
        for part in self._parts:
            yield pq.read_table(part, columns=columns)
        for rows in self._new:
            yield rows.select(columns)

    def _path(self) -> Path:
        return self._folder / f"{self._name}-{self._rows:08d}.parquet"
