"""An output folder belongs to one run."""

from pathlib import Path

import pytest

from data.claim import claim
from data.errors import InputError


def test_the_same_run_may_come_back_and_another_may_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not claim(out, key="a")
    (out / "result.txt").touch()
    assert claim(out, key="a")
    with pytest.raises(InputError, match="out: holds a run with other settings or inputs"):
        claim(out, key="b")


def test_a_folder_of_something_else_a_file_and_a_broken_mark_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    (tmp_path / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"ke')
    for name, message in (("full", "is not empty"), ("file", "is a file"), ("broken", "cannot be read")):
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            claim(tmp_path / name, key="a")
