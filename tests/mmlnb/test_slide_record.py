"""The table of slides always tells the state of the run."""

import csv
from pathlib import Path

from mmlnb.slide_record import SlideRecord, SlideRecords, read_records

CLASSES = ("UD", "PD")


def test_records_survive_the_process_and_slides_of_one_name_stay_apart(tmp_path: Path) -> None:
    records = SlideRecords(tmp_path, CLASSES)
    called = SlideRecord(
        slide="b/x.svs",
        status="ok",
        subtype="PD",
        probabilities={"UD": 0.25, "PD": 0.75},
        mean_probabilities={"UD": 0.5, "PD": 0.5},
        patches=7,
        mpp=0.5,
        mpp_origin="file",
    )
    failed = SlideRecord(slide="a/x.svs", status="failed", reason='cannot open, "really"')
    records.add(called)
    records.add(failed)
    again = SlideRecords(tmp_path, CLASSES)
    assert again.find("b/x.svs") == called
    assert again.find("c/x.svs") is None
    assert read_records(tmp_path) == [failed, called]
    with (tmp_path / "slides.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["slide"] for row in rows] == ["a/x.svs", "b/x.svs"]
    assert rows[0]["reason"] == 'cannot open, "really"'
    assert (rows[1]["p_PD"], rows[1]["mean_p_PD"], rows[1]["mpp_origin"]) == ("0.750000", "0.500000", "file")
