"""Read the captions of a folder: the newest row of each patch."""

from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PATTERN = "part-*.parquet"
COLUMNS = ("patch_id", "text", "key", "tokens", "mean_logprob", "error", "flags", "copy_of", "alternatives")


def read_captions(folder: Path, *, missing_ok: bool = False, columns: tuple[str, ...] = COLUMNS) -> "pd.DataFrame":
    """Rows of the parts in `folder`, one for each patch: the newest, be it text or error, where there are several.

    Args:
        missing_ok: a folder without parts gives no rows.
        columns: those to read; `patch_id` must be one of them.

    Raises:
        InputError: no parts (unless `missing_ok`), or one that cannot be read or lacks a column.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = sorted(folder.glob(PATTERN), key=lambda path: (part_number(path), path.name))
    if not parts and not missing_ok:
        raise InputError(f"{folder}: holds no captions ({PATTERN}); write them with `mmlnb caption`")
    frames = []
    for path in parts:
        try:
            frames.append(pq.read_table(path).select(list(columns)).to_pandas())
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(
                f"{path}: cannot be read as captions ({', '.join(columns)}); remove it and run `mmlnb caption` again"
            ) from error
    if not frames:
        return pd.DataFrame(columns=list(columns))
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("patch_id", keep="last", ignore_index=True)
    for column in {"text", "error", "copy_of"} & set(columns):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    return frame


def part_number(path: Path) -> int:
    """Number of a part, from part-<rank>-<n>.parquet; a later run counts on from the highest of all ranks.

    Raises:
        InputError: the name has no number.
    """
    try:
        return int(path.stem.rsplit("-", 1)[1])
    except ValueError as error:
        raise InputError(f"{path}: not a part of captions; move it elsewhere") from error
