"""A folder of slides always finishes: every slide is called, or listed with the reason why not."""

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest

import mmlnb
from data.errors import InputError
from mmlnb.cli import main
from mmlnb.config import InferConfig

REASONS = {
    "negative/boxes.tiff": ("failed", "implausible resolution of 352.778"),
    "negative/corrupt-tiles.svs": ("failed", "cannot be read"),
    "negative/empty.svs": ("failed", "cannot open"),
    "negative/fluorescence-DAPI.ndpi": ("skipped", "not H&E"),
    "negative/not-tissue.dcm": ("failed", "implausible resolution of 16.78"),
    "negative/plain-rgb.tif": ("failed", "cannot open"),
    "negative/small.svs": ("failed", "too small"),
    "negative/text-renamed.svs": ("failed", "cannot open"),
    "negative/truncated.svs": ("failed", "cannot open"),
    "negative/unsupported-dicom.dcm": ("failed", "cannot open"),
}


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "slides.csv").open(newline="") as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


def test_real_slides_are_called_and_the_others_have_a_reason(demo_run: Path, real_data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "resolution.csv"
    manifest.write_text("slide,mpp\nTCGA-CR-7395-01A-01-TS1.svs,1.0\nC3L-00601-26.tiff,2.0\n")
    out = tmp_path / "out"
    command = ["infer", str(real_data / "slides"), str(out), "--bundle", str(demo_run / "bundle")]
    assert main([*command, "--slide-manifest", str(manifest), "--caption", "none"]) == 3
    rows = table(out)
    called = {name: row for name, row in rows.items() if row["status"] == "ok"}
    assert set(called) == {"C3L-00601-26.tiff", "CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"}
    assert called["CMU-1-Small-Region.svs"]["mpp_origin"] == "file"
    assert called["C3L-00601-26.tiff"]["mpp_origin"] == "manifest"
    assert "4.0 times coarser" in called["C3L-00601-26.tiff"]["reason"]
    assert set(rows) - set(called) == set(REASONS)
    for name, (status, reason) in REASONS.items():
        assert rows[name]["status"] == status, name
        assert reason in rows[name]["reason"], name
        assert Path(name).name in rows[name]["reason"], name
    assert not (out / "errors").exists()


@pytest.fixture
def one_slide(real_data: Path, tmp_path: Path) -> Path:
    """Folder with one real slide in two sub-folders."""
    for folder in ("a", "b"):
        (tmp_path / "slides" / folder).mkdir(parents=True)
        shutil.copy(real_data / "slides" / "CMU-1-Small-Region.svs", tmp_path / "slides" / folder / "x.svs")
    return tmp_path / "slides"


def test_slides_of_one_name_do_not_meet_and_equal_slides_get_equal_results(
    demo_run: Path, one_slide: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert mmlnb.infer(one_slide, out, bundle=demo_run / "bundle") == 0
    first, second = (pd.read_parquet(out / "predictions" / folder / "x.svs.parquet") for folder in "ab")
    assert len(first) == 49
    assert first["captioned"].all()
    columns = [column for column in first if column != "patch_id"]
    pd.testing.assert_frame_equal(first[columns], second[columns])
    before = {path: path.stat().st_mtime_ns for path in (out / "predictions").rglob("*.parquet")}
    assert mmlnb.infer(one_slide, out, bundle=demo_run / "bundle") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match="holds a run with other settings or inputs"):
        mmlnb.infer(one_slide, out, bundle=demo_run / "bundle", caption="none")


def test_a_slide_that_was_replaced_is_computed_again(demo_run: Path, one_slide: Path, tmp_path: Path) -> None:
    settings = {"bundle": demo_run / "bundle", "caption": "none"}
    slide = one_slide / "a" / "x.svs"
    whole = slide.read_bytes()
    slide.write_bytes(whole[:1000])
    assert mmlnb.infer(one_slide, tmp_path / "out", **settings) == 3
    slide.write_bytes(whole)
    assert mmlnb.infer(one_slide, tmp_path / "out", **settings) == 0
    slide.write_bytes(whole[:1000])
    assert mmlnb.infer(one_slide, tmp_path / "out", **settings) == 3
    assert table(tmp_path / "out")["a/x.svs"]["status"] == "failed"
    for left in ("predictions/{}.parquet", "geojson/{}.geojson", "slides/{}.html"):
        assert not (tmp_path / "out" / left.format("a/x.svs")).exists()
        assert (tmp_path / "out" / left.format("b/x.svs")).exists()


def test_a_slide_that_has_gone_does_not_stop_the_others(demo_run: Path, one_slide: Path, tmp_path: Path) -> None:
    (one_slide / "a" / "gone.svs").symlink_to(tmp_path / "nowhere.svs")
    assert mmlnb.infer(one_slide, tmp_path / "out", bundle=demo_run / "bundle", caption="none") == 3
    rows = table(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "a/gone.svs": "failed",
        "a/x.svs": "ok",
        "b/x.svs": "ok",
    }
    assert "gone.svs: no such file" in rows["a/gone.svs"]["reason"]


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("workers", 0), ("min_tissue", -1), ("max_unreadable", 5)]
)
def test_a_setting_out_of_range_is_refused_before_any_slide(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{name} {value}: give"):
        InferConfig(slides=Path("a"), out=Path("b"), **{name: value})


def test_the_image_alone_decides_where_nothing_is_described(demo_run: Path, one_slide: Path, tmp_path: Path) -> None:
    mmlnb.infer(one_slide / "a", tmp_path / "out", bundle=demo_run / "bundle", caption="none")
    predictions = pd.read_parquet(tmp_path / "out" / "predictions" / "x.svs.parquet")
    assert (predictions["gate"] == 0).all()
    assert not predictions["captioned"].any()


def test_a_slide_without_resolution_is_refused_by_name_until_one_is_given(
    demo_run: Path, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = real_data / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"
    command = ["infer", str(slide), str(tmp_path / "out"), "--bundle", str(demo_run / "bundle"), "--caption", "none"]
    assert main(command) == 3
    reason = table(tmp_path / "out")[slide.name]["reason"]
    assert slide.name in reason
    assert "--mpp" in reason
    command[2] = str(tmp_path / "with-mpp")
    assert main([*command, "--mpp", "1.0"]) == 0
    assert table(tmp_path / "with-mpp")[slide.name]["mpp_origin"] == "command line"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slides": "empty"}, "empty: no slide files found"),
        ({"slides": "nowhere"}, "nowhere: no such file or folder"),
        ({"bundle": "empty"}, "empty: holds no bundle"),
        ({"slide_manifest": "nowhere.csv"}, r"nowhere\.csv: no such slide manifest"),
        ({"slide_manifest": "bad.csv"}, r"bad\.csv, line 3: mpp is not a number"),
        ({"slide_manifest": "stain.csv"}, r"stain\.csv, line 2: any_stain is 'perhaps'; give yes or no"),
        ({"slide_manifest": "empty.csv"}, r"empty\.csv: not a CSV file"),
        ({"slide_manifest": "other.csv"}, r"other\.csv, line 2: no slide elsewhere\.svs below the folder"),
        ({"slide_manifest": "twice.csv"}, r"twice\.csv, line 3: the slide occurs twice"),
        ({"slide_manifest": "short.csv"}, r"short\.csv: column mpp is missing"),
        ({"out": "full"}, "full: is not empty"),
        ({"coordinates": "nowhere"}, "nowhere: no such folder"),
        ({"stain_reference": "patch.png"}, r"patch\.png: give --normalise"),
    ],
)
def test_wrong_usage_is_one_line(demo_run: Path, tmp_path: Path, settings: dict[str, str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    (tmp_path / "bad.csv").write_text("slide,mpp\nS001.tiff,0.5\nS002.tiff,half\n")
    (tmp_path / "stain.csv").write_text("slide,any_stain\nS001.tiff,perhaps\n")
    (tmp_path / "short.csv").write_text("slide\na\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "other.csv").write_text("slide,mpp\nelsewhere.svs,0.5\n")
    (tmp_path / "twice.csv").write_text("slide,mpp\nS001.tiff,0.5\nS001.tiff,0.25\n")
    paths = {name: tmp_path / value for name, value in settings.items()}
    defaults = {"slides": demo_run / "synth" / "slides", "out": tmp_path / "out", "bundle": demo_run / "bundle"}
    with pytest.raises(InputError, match=message) as caught:
        mmlnb.infer(**defaults | paths)
    assert "\n" not in str(caught.value)
