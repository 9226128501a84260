"""The one reader of captions: parts in the order of their numbers, the newest row of each patch."""

from pathlib import Path

import pandas as pd
import pytest

from data.captions import COLUMNS, read_captions
from data.errors import InputError


def write(folder: Path, name: str, rows: dict[str, tuple[str | None, str | None]]) -> None:
    """Write a part with (text, error) by patch."""
    frame = pd.DataFrame(
        [dict.fromkeys(COLUMNS) | {"patch_id": p, "text": text, "error": e} for p, (text, e) in rows.items()],
        dtype=object,
    )
    frame.to_parquet(folder / f"{name}.parquet")


def test_part_10_is_newer_than_part_2_whatever_the_rank(tmp_path: Path) -> None:
    write(tmp_path, "part-1-2", {"a": ("old", None), "b": ("kept", None)})
    write(tmp_path, "part-0-10", {"a": ("new", None)})
    texts = read_captions(tmp_path).set_index("patch_id")["text"]
    assert texts.to_dict() == {"a": "new", "b": "kept"}


def test_the_newest_row_holds_even_where_it_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "part-0-0", {"a": ("cells", None)})
    write(tmp_path, "part-0-1", {"a": (None, "unreadable image")})
    row = read_captions(tmp_path).iloc[0]
    assert row["text"] is None and row["error"] == "unreadable image"


def test_a_folder_without_parts_is_refused_unless_it_may_be_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no captions .* `mmlnb caption`"):
        read_captions(tmp_path)
    assert list(read_captions(tmp_path, missing_ok=True).columns) == list(COLUMNS)


@pytest.mark.parametrize("broken", ["not parquet", "no column"])
def test_an_unreadable_part_is_named(tmp_path: Path, broken: str) -> None:
    part = tmp_path / "part-0-3.parquet"
    if broken == "not parquet":
        part.write_bytes(b"half a file")
    else:
        pd.DataFrame({"patch_id": ["a"]}).to_parquet(part)
    with pytest.raises(InputError, match=r"part-0-3\.parquet: cannot be read as captions"):
        read_captions(tmp_path)


def test_a_part_without_a_number_is_named(tmp_path: Path) -> None:
    write(tmp_path, "part-final", {"a": ("cells", None)})
    with pytest.raises(InputError, match=r"part-final\.parquet: not a part of captions"):
        read_captions(tmp_path)
