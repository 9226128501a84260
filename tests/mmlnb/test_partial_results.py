"""What is known of a slide so far is on disk in parts, and a later process goes on after the last whole one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmlnb.partial_results
from mmlnb.partial_results import PartialResults, TakenOver


def partial(folder: Path, *, key: str = "k", seconds: float = 0, held: bool = True) -> PartialResults:
    return PartialResults(folder / "slide", key=key, seconds=seconds, held=lambda: held)


def rows(*values: int) -> pa.Table:
    texts = [None if value % 2 else f"tile {value}" for value in values]
    return pa.table({"x": list(values), "text": pa.array(texts, pa.string())})


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "slide").rglob("*") if path.is_file())


def test_a_later_process_goes_on_after_the_last_row_and_has_them_all(tmp_path: Path) -> None:
    first = partial(tmp_path)
    first.add(rows(0, 1, 2))
    first.add(rows(3, 4))
    assert parts(tmp_path) == ["tiles-00000000.parquet", "tiles-00000003.parquet"]
    second = partial(tmp_path)
    assert len(second) == 5
    second.add(rows(5))
    assert second.table(["text", "x"]).equals(rows(0, 1, 2, 3, 4, 5).select(["text", "x"]))
    assert [len(column) for column in second.column("x")] == [3, 2, 1]


def test_rows_wait_in_memory_until_it_is_time_and_count_all_the_same(tmp_path: Path) -> None:
    waiting = partial(tmp_path, seconds=1000)
    waiting.add(rows(0, 1))
    waiting.add(rows(2))
    assert parts(tmp_path) == []
    assert len(waiting) == 3
    assert waiting.table(["x"])["x"].to_pylist() == [0, 1, 2]
    assert len(partial(tmp_path)) == 0
    waiting.write()
    waiting.write()
    assert parts(tmp_path) == ["tiles-00000000.parquet"]
    assert len(partial(tmp_path)) == 3


def test_no_more_rows_wait_than_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmlnb.partial_results, "LARGEST_PART", 4)
    waiting = partial(tmp_path, seconds=1000)
    for start in range(0, 9, 3):
        waiting.add(rows(start, start + 1, start + 2))
    assert parts(tmp_path) == ["tiles-00000000.parquet"]
    assert len(partial(tmp_path)) == 6


def test_rows_of_another_key_are_removed(tmp_path: Path) -> None:
    partial(tmp_path).add(rows(0, 1))
    other = partial(tmp_path, key="another file")
    assert len(other) == 0
    assert parts(tmp_path) == []


def test_a_part_that_was_cut_off_while_written_counts_for_nothing(tmp_path: Path) -> None:
    partial(tmp_path).add(rows(0, 1))
    folder = tmp_path / "slide" / "k"
    (folder / ".tiles-00000002.99.tmp.parquet").write_bytes(b"PAR1 torn")
    again = partial(tmp_path)
    assert len(again) == 2
    again.remove()
    assert not (tmp_path / "slide").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1" + bytes(100)])
def test_a_part_without_its_content_is_computed_again(tmp_path: Path, content: bytes) -> None:
    whole = partial(tmp_path)
    whole.add(rows(0, 1))
    whole.add(rows(2, 3))
    (tmp_path / "slide" / "k" / "tiles-00000002.parquet").write_bytes(content)
    again = partial(tmp_path)
    assert len(again) == 2
    again.add(rows(2, 3))
    assert again.table(["x"])["x"].to_pylist() == [0, 1, 2, 3]


def test_one_that_was_succeeded_does_not_replace_what_its_successor_wrote(tmp_path: Path) -> None:
    suspended = partial(tmp_path, held=False)
    successor = partial(tmp_path, seconds=1000)
    successor.add(rows(0, 1, 2))
    successor.add(rows(3, 4))
    successor.write()
    with pytest.raises(TakenOver):
        suspended.add(rows(0, 1, 2))
    assert successor.table(["x"])["x"].to_pylist() == [0, 1, 2, 3, 4]


def test_rows_of_another_kind_are_kept_beside_and_leave_with_the_slide(tmp_path: Path) -> None:
    tiles = partial(tmp_path, seconds=1000)
    tiles.add(rows(0, 1))
    described = tiles.beside("described")
    described.add(rows(1))
    assert parts(tmp_path) == []
    tiles.write()
    assert parts(tmp_path) == ["described-00000000.parquet", "tiles-00000000.parquet"]
    again = partial(tmp_path)
    assert (len(again), len(again.beside("described"))) == (2, 1)
    assert again.beside("described").table(["x"])["x"].to_pylist() == [1]
    again.remove()
    assert not (tmp_path / "slide").exists()


def test_lists_come_as_a_matrix_without_those_that_are_empty(tmp_path: Path) -> None:
    lists = partial(tmp_path)
    for values in ([[1.0, 2.0], []], [[3.0, 4.0], [5.0, 6.0]]):
        lists.add(pa.table({"features": pa.array(values, pa.list_(pa.float32()))}))
    assert lists.matrix("features", rows=3).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_part_is_not_written_on_a_full_disk_and_the_earlier_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = partial(tmp_path)
    whole.add(rows(0, 1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            whole.add(rows(2))
    assert parts(tmp_path) == ["tiles-00000000.parquet"]
    assert len(partial(tmp_path)) == 2
