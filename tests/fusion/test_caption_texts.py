"""Captions as fusion reads them."""

from pathlib import Path

import pandas as pd
import pytest

from data.errors import InputError
from fusion.captions import read_caption_texts


def write(folder: Path, number: int, rows: list[tuple[str, str | None, str | None]]) -> None:
    frame = pd.DataFrame(rows, columns=["patch_id", "text", "error"], dtype=object)
    frame.to_parquet(folder / f"part-{number}.parquet")


def test_a_caption_with_an_error_or_without_words_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, 0, [("a", "cells", None), ("b", "half a sent", "out of memory"), ("c", "  ", None)])
    write(tmp_path, 1, [("d", None, "unreadable image")])
    found = read_caption_texts(tmp_path)
    assert found.texts == {"a": "cells"} and found.failed == 3


def test_the_newest_caption_of_a_patch_holds_be_it_text_or_error(tmp_path: Path) -> None:
    write(tmp_path, 0, [("a", None, "out of memory"), ("b", "cells", None)])
    write(tmp_path, 1, [("a", "cells", None), ("b", None, "out of memory")])
    found = read_caption_texts(tmp_path)
    assert found.texts == {"a": "cells"} and found.failed == 1


def test_a_folder_without_captions_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no captions .* `mmlnb caption`"):
        read_caption_texts(tmp_path)


@pytest.mark.parametrize("broken", ["not parquet", "no column"])
def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, broken: str) -> None:
    part = tmp_path / "part-3.parquet"
    if broken == "not parquet":
        part.write_bytes(b"half a file")
    else:
        pd.DataFrame({"patch_id": ["a"]}).to_parquet(part)
    with pytest.raises(InputError, match=r"part-3\.parquet: cannot be read as captions"):
        read_caption_texts(tmp_path)
