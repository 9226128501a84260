"""Read the captions that stage 1 wrote: text by patch."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import InputError


@dataclass(frozen=True)
class CaptionTexts:
    """Usable captions of a folder."""

    texts: dict[str, str]
    """Text by `patch_id`."""
    failed: int
    """Patches whose caption has an error or is empty."""


def read_caption_texts(folder: Path) -> CaptionTexts:
    """Read all `part-*.parquet` of `folder`; a caption with an error or without words counts as failed.

    Where a patch occurs more than once (a later run repaired it), the last usable text holds.

    Raises:
        InputError: no parts, or one that cannot be read or lacks a column.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{folder}: holds no captions (part-*.parquet); write them with `mmlnb caption`")
    texts: dict[str, str] = {}
    seen: set[str] = set()
    for part in parts:
        try:
            table = pq.read_table(part, columns=["patch_id", "text", "error"])
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{part}: cannot be read as captions (patch_id, text, error); write it again with `mmlnb caption`"
            ) from error
        columns = (table.column(name).to_pylist() for name in ("patch_id", "text", "error"))
        for patch, text, failure in zip(*columns, strict=True):
            seen.add(patch)
            if not failure and text and text.strip():
                texts[patch] = text.strip()
    return CaptionTexts(texts=texts, failed=len(seen) - len(texts))
