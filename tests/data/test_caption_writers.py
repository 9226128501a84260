"""Captions are refused where a model behind them has read descriptions of the patients that are measured."""

import logging
from pathlib import Path

import pytest

from data.caption_writers import CaptionWriter, check_writers, read_writers, write_writers
from data.errors import InputError


def writer(name: str, trained: tuple[str, ...] | None, chosen: tuple[str, ...] | None = ()) -> CaptionWriter:
    return CaptionWriter(model="tiny", adapter=name, weights="0" * 32, trained_on=trained, chosen_on=chosen)


def test_writers_are_read_as_they_were_written(tmp_path: Path) -> None:
    writers = [writer("run", ("A", "B"), ("C",)), writer("run/crossfit/1", None, None)]
    write_writers(tmp_path, writers)
    assert read_writers(tmp_path) == writers
    assert read_writers(tmp_path / "elsewhere") is None
    (tmp_path / "writers.json").write_text('{"writers": [{"model": "tiny"}]}')
    with pytest.raises(InputError, match=r"writers\.json: cannot be read; give the same `mmlnb caption` again"):
        read_writers(tmp_path)


@pytest.mark.parametrize(
    ("split", "patients", "message"),
    [
        ("test", {"X", "C", "B"}, r"run/crossfit/1, which wrote captions, was trained on patient B \(and 1 more\) of"),
        ("test", {"V", None}, "run, which wrote captions, was chosen on patient V of the split test; describe the"),
        ("val", {"A"}, "run, which wrote captions, was trained on patient A of the split val"),
        ("val", {"V"}, None),
        ("test", {"X", None}, None),
        ("train", {"A", "B", "V"}, None),
    ],
)
def test_a_patient_that_any_writer_has_seen_is_named(
    tmp_path: Path, split: str, patients: set[str | None], message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    write_writers(tmp_path, [writer("run", ("A",), ("V",)), writer("run/crossfit/1", ("B", "C"), ("V",))])
    if message is None:
        check_writers(tmp_path, patients, split=split)
    else:
        with pytest.raises(InputError, match=message):
            check_writers(tmp_path, patients, split=split)
    assert not caplog.records


def test_what_is_not_known_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert check_writers(tmp_path, {"A"}, split="test") == {"writers": None, "unknown": None}
        write_writers(tmp_path, [writer("merged", None, None), writer("run", ("B",))])
        assert check_writers(tmp_path, {"A"}, split="test") == {"writers": 2, "unknown": 1}
    assert "does not say who wrote the captions (writers.json is missing)" in caplog.messages[0]
    assert "whose descriptions merged was trained on is unknown" in caplog.messages[1]
