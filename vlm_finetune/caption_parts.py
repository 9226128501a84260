"""Write captions part by part: a part that exists is whole."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from data.atomic import atomic
from vlm_finetune.caption_row import CaptionRow

if TYPE_CHECKING:
    from datasets import Features


class PartWriter:
    """Gathers the rows of one process into parts of `rows_per_part`.

    Args:
        out: folder of the parts.
        rank: number of the process.
        number: of its first part.
        done: (patch_id, key) of the rows that are there; they are not written again.
    """

    def __init__(self, out: Path, *, rank: int, number: int, rows_per_part: int, done: set[tuple[str, str]]) -> None:
        self.out = out
        self.rank = rank
        self.number = number
        self.rows_per_part = rows_per_part
        self.done = done
        self.count = 0
        """Rows taken in, on disk or not."""
        self.failed = 0
        self.tokens = 0
        self._rows: list[CaptionRow] = []

    def add(self, row: CaptionRow) -> None:
        """Take in `row`; a part is written once it is full."""
        if (row.patch_id, row.key) in self.done:
            return
        self.count += 1
        self.failed += row.error is not None
        # A copy's tokens were not written again.
        self.tokens += row.tokens if row.copy_of is None else 0
        self._rows.append(row)
        if len(self._rows) >= self.rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write what is there as a part, be it smaller."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        table = pa.Table.from_pylist([asdict(row) for row in self._rows], schema=features().arrow_schema)
        with atomic(self.out / f"part-{self.rank}-{self.number}.parquet") as temporary:
            pq.write_table(table, temporary)
        self._rows, self.number = [], self.number + 1


def features() -> "Features":
    """Schema of the parts."""
    from datasets import Features, List, Value

    text = Value("string")
    return Features(
        {
            "patch_id": text,
            "text": text,
            "key": text,
            "tokens": Value("int32"),
            "mean_logprob": Value("float32"),
            "error": text,
            "flags": text,
            "copy_of": text,
            "alternatives": List(text),
        }
    )
