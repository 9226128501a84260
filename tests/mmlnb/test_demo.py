"""The whole path runs from one command in a fresh folder, and says what it measured."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mmlnb
from data.errors import InputError
from data.manifest import read_manifest
from mmlnb.config import DemoConfig
from mmlnb.demonstration import demo
from mmlnb.finished_slide import open_finished
from mmlnb.pages.slide_page import write_slide_page
from mmlnb.slide_record import read_records
from vlm_finetune.caption import read_captions

STAGES = ("synth", "finetune", "caption", "train", "evaluate", "infer")


def test_the_summary_holds_what_was_measured(demo_run: Path) -> None:
    summary = json.loads((demo_run / "summary.json").read_text())
    assert set(summary["seconds"]) == {*STAGES, "total"}
    assert summary["seconds"]["total"] == pytest.approx(sum(summary["seconds"][stage] for stage in STAGES), abs=0.5)
    assert 0.1 < summary["peak_rss_gb"] < 8
    assert set(summary["caption"]["finding_macro_f1"]) == {"base", "finetuned"}
    for arm in ("image_only", "text_only", "fused"):
        assert 0 <= summary["patch"][arm]["balanced_accuracy"] <= 1
    assert summary["slide"]["count"] == 3


def test_no_held_out_patient_was_trained_on(demo_run: Path) -> None:
    manifest = read_manifest(demo_run / "patches.parquet")
    held_out = set(manifest.loc[manifest["split"] == "test", "patient_id"])
    trained = set(json.loads((demo_run / "finetune" / "trained_on.json").read_text())["patients"])
    evaluated = set(pd.read_parquet(demo_run / "evaluate" / "predictions.parquet")["patient_id"])
    slides = set(pd.read_csv(demo_run / "synth" / "slides.csv")["patient_id"])
    assert evaluated == held_out
    assert not trained & (held_out | slides)
    assert not slides & set(manifest["patient_id"])


def test_every_patch_is_described_once(demo_run: Path) -> None:
    manifest = read_manifest(demo_run / "patches.parquet")
    captions = read_captions(demo_run / "captions")
    assert sorted(captions["patch_id"]) == sorted(manifest["patch_id"])
    assert captions["key"].nunique() == len(captions)


def test_every_slide_has_its_outputs(demo_run: Path) -> None:
    out = demo_run / "infer"
    with (out / "slides.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 3
    for row in rows:
        assert row["subtype"] in ("UD", "PD", "D")
        assert sum(float(row[f"p_{name}"]) for name in ("UD", "PD", "D")) == pytest.approx(1, abs=1e-4)
        assert (row["mpp"], row["mpp_origin"]) == ("0.5", "file")
        predictions = pd.read_parquet(out / "predictions" / f"{row['slide']}.parquet")
        assert len(predictions) == int(row["patches"])
        assert predictions["captioned"].sum() == int(row["captioned"])
        assert predictions["patch_id"].is_unique
        geojson = json.loads((out / "geojson" / f"{row['slide']}.geojson").read_text())
        kinds = [feature["properties"]["objectType"] for feature in geojson["features"]]
        assert kinds.count("tile") == len(predictions)
        assert "annotation" in kinds
        assert row["subtype"] in (out / "slides" / f"{row['slide']}.html").read_text()


def test_pages_are_self_contained_and_their_links_lead_somewhere(demo_run: Path) -> None:
    pages = [demo_run / name for name in ("report/index.html", "report/training.html", "infer/index.html")]
    pages += (demo_run / "infer" / "slides").glob("*.html")
    assert len(pages) == 6
    for page in pages:
        text = page.read_text()
        assert not re.search(r"(?:src|href)=\"https?:", text)
        for link in re.findall(r"<a href=\"([^\"#]+)\"", text):
            assert (page.parent / link).resolve().is_file(), (page, link)


def test_pages_of_slides_that_are_written_again_say_the_same(demo_run: Path) -> None:
    def content() -> dict[str, dict[str, Any]]:
        files = (demo_run / "infer" / "slides").glob("*.json")
        return {file.name: json.loads(file.read_text()) for file in sorted(files)}

    before = content()
    tables = {file.name: pd.read_csv(file) for file in (demo_run / "infer" / "slides").glob("*.csv")}
    assert len(before) == len(tables) == 3
    mmlnb.report(demo_run, slide_pages=True)
    for name, after in content().items():
        assert after["record"]["slide"] + ".json" == name
        for what in ("summary", "counts", "patches_for", "patches_against", "tissue_mm2", "tile_px", "image_call"):
            assert after[what] == before[name][what], what
        for one, other in zip(after["classes"], before[name]["classes"], strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
            assert one["interval"] == pytest.approx(other["interval"], abs=1e-6)
        page = (demo_run / "infer" / "slides" / name).with_suffix(".html").read_text()
        assert "can no longer be read" not in page
    for name, table in tables.items():
        again = pd.read_csv(demo_run / "infer" / "slides" / name)
        pd.testing.assert_frame_equal(again, table, check_exact=False, atol=1e-4)


def test_the_page_of_a_slide_that_has_gone_says_so(demo_run: Path, tmp_path: Path) -> None:
    folder = replace(open_finished(demo_run / "infer"), slides=tmp_path)
    slide, read = folder.read(read_records(demo_run / "infer")[0])
    page = tmp_path / "a.html"
    write_slide_page(slide, page, taxonomy=folder.bundle.taxonomy, notice="", read=read)
    assert "The slide can no longer be read here." in page.read_text()
    assert "The slide&#39;s file is no longer where it was" in page.read_text()


def test_a_finished_demo_is_not_run_again_and_another_one_is_refused(
    demo_run: Path, reduced_demo: dict[str, Any]
) -> None:
    before = (demo_run / "summary.json").read_bytes()
    mmlnb.demo(demo_run, **reduced_demo)
    assert (demo_run / "summary.json").read_bytes() == before
    with pytest.raises(InputError, match="holds a run with other settings"):
        mmlnb.demo(demo_run, **reduced_demo | {"patients": 12})


@pytest.mark.parametrize("stage", ["synth", "evaluate", "infer"])
def test_a_demo_that_was_cut_off_in_a_stage_goes_on(demo_run: Path, reduced_demo: dict[str, Any], stage: str) -> None:
    results = [
        demo_run / name
        for name in ("synth/labels.csv", "evaluate/predictions.parquet", "infer/predictions/S002.tiff.parquet")
    ]
    before = [path.read_bytes() for path in results]
    state = json.loads((demo_run / "stages.json").read_text())
    del state["seconds"][stage]
    (demo_run / "stages.json").write_text(json.dumps(state))
    if stage == "synth":
        (demo_run / "synth" / "slides.csv").unlink()
    if stage == "infer":
        (demo_run / "infer" / "records" / "S002.tiff.json").unlink()
    mmlnb.demo(demo_run, **reduced_demo)
    assert [path.read_bytes() for path in results] == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        demo(DemoConfig(out=tmp_path))
