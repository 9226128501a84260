"""The record of a slide says how it ended, and slides.csv and summary.md always tell the state of the run."""

import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmlnb.folder_state import FolderState
from mmlnb.slide_record import SlideRecord, file_stamp, find_record, read_records, write_record

CLASSES = ("UD", "PD")
CALLED = SlideRecord(
    slide="b/x.svs",
    status="ok",
    subtype="PD",
    probabilities={"UD": 0.25, "PD": 0.75},
    mean_probabilities={"UD": 0.5, "PD": 0.5},
    patches=7,
    mpp=0.5,
    mpp_origin="file",
    file="10:1",
)
FAILED = SlideRecord(slide="a/x.svs", status="failed", reason='cannot open, "really" | at all', file="10:1")


def table(out: Path) -> list[dict[str, str]]:
    with (out / "slides.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def soon(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_records_survive_the_process_and_slides_of_one_name_stay_apart(tmp_path: Path) -> None:
    assert find_record(tmp_path, "b/x.svs") is None
    write_record(tmp_path, CALLED)
    write_record(tmp_path, FAILED)
    (tmp_path / "records" / "a" / ".x.svs.1.tmp.json").write_text("{")
    assert find_record(tmp_path, "b/x.svs") == CALLED
    assert find_record(tmp_path, "c/x.svs") is None
    assert read_records(tmp_path) == [FAILED, CALLED]


@pytest.mark.parametrize("content", ["", '{"slide": ', '{"slide": "b/x.svs", "status": "ok", "later": 1}'])
def test_a_damaged_record_is_none_so_that_its_slide_is_done_again(tmp_path: Path, content: str) -> None:
    write_record(tmp_path, CALLED)
    write_record(tmp_path, FAILED)
    (tmp_path / "records" / "b" / "x.svs.json").write_text(content)
    assert find_record(tmp_path, "b/x.svs") is None
    assert read_records(tmp_path) == [FAILED]


def test_a_name_that_leaves_no_room_for_a_suffix_still_has_a_record(tmp_path: Path) -> None:
    record = replace(FAILED, slide="a/" + "ü" * 125 + ".svs")
    write_record(tmp_path, record)
    assert find_record(tmp_path, record.slide) == record
    assert read_records(tmp_path) == [record]


def test_both_files_show_every_record_of_this_run_and_no_other(tmp_path: Path) -> None:
    for record in (CALLED, FAILED, replace(CALLED, slide="of another folder.svs")):
        write_record(tmp_path, record)
    with FolderState(tmp_path, slides=["a/x.svs", "b/x.svs", "c/x.svs"], class_names=CLASSES) as state:
        state.update({"c/x.svs": "host 7"})
        summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
        assert summary.startswith("# 2 of 3 slides done\n")
        assert "1 called, 1 failed, 0 skipped, 1 to do." in summary
        assert "- c/x.svs (host 7)" in summary
        assert '| a/x.svs | failed | cannot open, "really" \\| at all | 1 |' in summary
    first, second = table(tmp_path)
    assert (first["slide"], first["reason"], first["p_PD"]) == ("a/x.svs", FAILED.reason, "")
    assert (second["slide"], second["p_PD"], second["mean_p_PD"]) == ("b/x.svs", "0.750000", "0.500000")
    assert (second["mpp"], second["mpp_origin"]) == ("0.5", "file")
    assert "In work" not in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_what_changes_soon_after_the_last_writing_is_shown_though_nothing_follows(tmp_path: Path) -> None:
    with FolderState(tmp_path, slides=["a/x.svs", "b/x.svs"], class_names=CLASSES, seconds=0.3) as state:
        state.update({"a/x.svs": "host 7"})
        write_record(tmp_path, FAILED)
        state.update({"b/x.svs": "host 7"})
        assert not table(tmp_path)
        # The slide that is next takes hours.
        assert soon(lambda: len(table(tmp_path)) == 1)
        assert soon(lambda: "- b/x.svs (host 7)" in (tmp_path / "summary.md").read_text(encoding="utf-8"))


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    with FolderState(tmp_path, slides=["a/x.svs"], class_names=CLASSES, seconds=0.2) as state:
        state.update({})
        state.update({"a/x.svs": "host 7"})
    (tmp_path / "summary.md").unlink()
    time.sleep(0.4)
    assert not (tmp_path / "summary.md").exists()


@pytest.mark.parametrize(
    ("record", "changes", "settled"),
    [
        (CALLED, {}, True),
        (FAILED, {}, True),
        (CALLED, {"file": "11:1"}, False),
        (FAILED, {"file": "10:2"}, False),
        (CALLED, {"stated_mpp": 0.25}, False),
        (CALLED, {"usual_mpp": 0.25}, True),
        (replace(CALLED, mpp_origin="command line"), {"usual_mpp": 0.25}, False),
        (FAILED, {"usual_mpp": 0.25}, False),
        (CALLED, {"any_stain": True}, True),
        (replace(FAILED, status="skipped"), {"any_stain": True}, False),
    ],
)
def test_a_slide_is_done_again_only_for_what_concerns_it(
    record: SlideRecord, changes: dict[str, object], settled: bool
) -> None:
    stated = {"file": "10:1", "stated_mpp": None, "usual_mpp": None, "any_stain": False}
    assert record.settles(**stated | changes) is settled  # type: ignore[arg-type]


def test_a_file_is_known_by_size_and_time_of_change_and_one_that_is_gone_by_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.svs"
    assert file_stamp(file) == ""
    file.write_bytes(b"abc")
    first = file_stamp(file)
    file.write_bytes(b"abcd")
    assert first != file_stamp(file) != ""


def test_a_record_that_names_another_slide_than_its_file_is_not_believed(tmp_path: Path) -> None:
    write_record(tmp_path, CALLED)
    path = tmp_path / "records" / "b" / "x.svs.json"
    for name in ("../../../home/x.svs", "/home/x.svs", "b/y.svs", "b/../b/x.svs"):
        path.write_text(path.read_text().replace(find_slide(path), name))
        assert read_records(tmp_path) == []
        assert find_record(tmp_path, "b/x.svs") is None


def find_slide(path: Path) -> str:
    return str(json.loads(path.read_text())["slide"])
