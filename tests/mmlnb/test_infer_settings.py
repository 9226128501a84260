"""The settings of a run over a folder, and names that are awkward, do what they say down to the files written."""

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from cut_slide import cut_slide
from infer_outputs import changed, predictions, table

from data.errors import InputError
from data.manifest import read_manifest
from mmlnb.slide_record import find_record

TILES = 14


def test_fluorescence_is_used_where_it_is_asked_for_by_flag_or_in_the_manifest(
    run: Callable[..., int], real_data: Path, tmp_path: Path
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    shutil.copy(real_data / "slides" / "negative" / "fluorescence-DAPI.ndpi", slides / "f.ndpi")
    manifest = tmp_path / "slides.csv"
    # As a spreadsheet saves it.
    manifest.write_text("slide,any_stain\nf.ndpi,Yes\n", encoding="utf-8-sig")
    assert run(slides, tmp_path / "out") == 3
    row = table(tmp_path / "out")["f.ndpi"]
    assert row["status"] == "skipped"
    assert "--any-stain" in row["reason"]
    assert run(slides, tmp_path / "out", slide_manifest=manifest) == 0
    by_manifest = predictions(tmp_path / "out", "f.ndpi")
    reason = table(tmp_path / "out")["f.ndpi"]["reason"]
    assert "not H&E (dark background, as in fluorescence), and used all the same" in reason
    assert run(slides, tmp_path / "flag", any_stain=True) == 0
    pd.testing.assert_frame_equal(predictions(tmp_path / "flag", "f.ndpi"), by_manifest)


def test_a_name_that_is_too_long_costs_its_slide_and_no_other(run: Callable[..., int], two_slides: Path) -> None:
    long = "x" * 240 + ".tiff"
    (two_slides / "a.tiff").rename(two_slides / long)
    out = two_slides.parent / "out"
    assert run(two_slides, out) == 3
    rows = table(out)
    assert {name: row["status"] for name, row in rows.items()} == {long: "failed", "b.tiff": "ok"}
    assert "rename it" in rows[long]["reason"]


def test_plain_images_are_slides_where_their_reader_is_named(
    run: Callable[..., int], real_data: Path, tmp_path: Path
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    names = sorted(path.name for path in (real_data / "osteosarcoma").glob("Viable*.jpg"))[:2]
    for name in names:
        shutil.copy(real_data / "osteosarcoma" / name, slides)
    with pytest.raises(InputError, match=r"no slide files found.*--reader image"):
        run(slides, tmp_path / "auto")
    assert run(slides, tmp_path / "out", reader="image") == 3
    assert all("resolution" in row["reason"] for row in table(tmp_path / "out").values())
    assert run(slides, tmp_path / "out", reader="image", mpp=1.0) == 0
    for row in table(tmp_path / "out").values():
        assert (row["status"], row["mpp"], row["mpp_origin"]) == ("ok", "1.0", "command line")
        assert "2.0 times coarser than the 0.5" in row["reason"]
    assert set(table(tmp_path / "out")) == set(names)


def test_normalisation_is_recorded_with_its_reference_and_changes_the_colours(
    run: Callable[..., int], two_slides: Path, tmp_path: Path
) -> None:
    slide = two_slides / "a.tiff"
    assert run(slide, tmp_path / "as it is") == 0
    assert run(slide, tmp_path / "normalised", normalise="macenko") == 0
    before, after = (find_record(tmp_path / name, "a.tiff") for name in ("as it is", "normalised"))
    assert before is not None
    assert after is not None
    assert before.stain == ""
    assert re.match(r"macenko: 0\.\d{3} 0\.\d{3} 0\.\d{3}, .*; to torchstain default$", after.stain)
    assert after.stain.endswith("to torchstain default")
    assert before.probabilities != after.probabilities
    with pytest.raises(InputError, match="holds a run with other settings"):
        run(slide, tmp_path / "as it is", normalise="macenko")


def test_a_stain_reference_that_was_tested_is_refused_before_anything_is_written(
    run: Callable[..., int], demo_run: Path, two_slides: Path, tmp_path: Path
) -> None:
    rows = read_manifest(demo_run / "patches.parquet")
    for split, status in (("test", None), ("train", 0)):
        image = rows.loc[rows["split"] == split, "image"].iloc[0]
        reference = {"normalise": "macenko", "stain_reference": demo_run / image}
        if status is None:
            with pytest.raises(InputError, match="is a patch that the bundle's figures were measured on"):
                run(two_slides / "a.tiff", tmp_path / "out", **reference)
            assert not (tmp_path / "out").exists()
        else:
            assert run(two_slides / "a.tiff", tmp_path / "out", **reference) == status


def test_coordinates_that_were_exported_give_the_same_patches_the_same_probabilities(
    run: Callable[..., int], two_slides: Path, tmp_path: Path
) -> None:
    slides = two_slides
    assert run(slides, tmp_path / "own", hdf5=True) == 0
    given = tmp_path / "own" / "hdf5"
    (given / "b.tiff.h5").rename(tmp_path / "b.tiff.h5")
    assert run(slides, tmp_path / "given", coordinates=given) == 3
    assert "b.tiff: no coordinates in" in table(tmp_path / "given")["b.tiff"]["reason"]
    (tmp_path / "b.tiff.h5").rename(given / "b.tiff.h5")
    before = changed(tmp_path / "given", "a.tiff")
    assert run(slides, tmp_path / "given", coordinates=given) == 0, "the missing file is there now"
    assert changed(tmp_path / "given", "a.tiff") == before
    for slide in ("a.tiff", "b.tiff"):
        own, again = (predictions(tmp_path / name, slide).set_index(["x", "y"]) for name in ("own", "given"))
        assert len(again) > 0
        shared = own.loc[again.index]
        numbers = [name for name in own if name.startswith(("p_", "image_p_"))]
        np.testing.assert_allclose(again[numbers], shared[numbers], atol=1e-5)


def test_another_resolution_on_the_command_line_redoes_only_slides_without_their_own(
    run: Callable[..., int], real_data: Path, two_slides: Path, tmp_path: Path
) -> None:
    cut_slide(real_data, two_slides / "none.tiff", mpp=None)
    out = tmp_path / "out"
    assert run(two_slides, out) == 3
    assert "none.tiff" in table(out)["none.tiff"]["reason"]
    own = changed(out, "a.tiff")
    assert run(two_slides, out, mpp=0.5) == 0
    first = changed(out, "none.tiff")
    assert table(out)["none.tiff"]["patches"] == str(TILES)
    assert run(two_slides, out, mpp=0.4) == 0
    assert table(out)["none.tiff"]["patches"] != str(TILES)
    assert changed(out, "none.tiff") != first
    assert changed(out, "a.tiff") == own
    assert run(two_slides, out, mpp=0.4) == 0
    assert table(out)["none.tiff"]["mpp"] == "0.4"


def test_odd_names_work_through_to_the_links_between_the_pages(
    run: Callable[..., int], two_slides: Path, tmp_path: Path
) -> None:
    names = ["Fälle 100% #1/a b ü [x] & 'y'.tiff", "Fälle 100% #1/a%20b?.tiff", "[ab]*/a.tiff"]
    if sys.platform == "win32":
        names = names[:1]
    for name in names:
        (tmp_path / "odd" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(two_slides / "a.tiff", tmp_path / "odd" / name)
    out = tmp_path / "Ergebnis #2 100%"
    assert run(tmp_path / "odd", out, hdf5=True) == 0
    assert set(table(out)) == set(names)
    links = re.findall(r'href="([^"]+\.html)"', (out / "index.html").read_text(encoding="utf-8"))
    pages = [out / unquote(html.unescape(link)) for link in links]
    assert {page.relative_to(out).as_posix() for page in pages} == {f"slides/{name}.html" for name in names}
    for page in pages:
        content = page.read_text(encoding="utf-8")
        (back,) = re.findall(r'href="([^"]*index\.html)"', content)
        assert (page.parent / back).resolve() == (out / "index.html").resolve()
    for name in names:
        for kind, suffix in (("predictions", "parquet"), ("tiles", "parquet"), ("hdf5", "h5")):
            assert (out / kind / f"{name}.{suffix}").is_file()
        objects = json.loads((out / "geojson" / f"{name}.geojson").read_text(encoding="utf-8"))
        assert len(objects["features"]) > TILES


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_not_text_is_written_with_escapes(
    run: Callable[..., int], two_slides: Path, tmp_path: Path
) -> None:
    shutil.move(two_slides / "a.tiff", two_slides / os.fsdecode(b"F\xe4lle.tiff"))
    (two_slides / os.fsdecode(b"empty \xe4.svs")).touch()
    assert run(two_slides, tmp_path / "out") == 3
    rows = table(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "F\\udce4lle.tiff": "ok",
        "b.tiff": "ok",
        "empty \\udce4.svs": "failed",
    }
    assert "empty \\udce4.svs: OpenSlide cannot open it" in rows["empty \\udce4.svs"]["reason"]


@pytest.mark.parametrize("value", ["nan", "inf", "half"])
def test_a_resolution_in_the_manifest_that_is_no_number_is_refused_by_its_line(
    run: Callable[..., int], two_slides: Path, tmp_path: Path, value: str
) -> None:
    (tmp_path / "slides.csv").write_text(f"slide,mpp\na.tiff,0.5\nb.tiff,{value}\n")
    with pytest.raises(InputError, match=r"slides\.csv, line 3: mpp is not a number"):
        run(two_slides, tmp_path / "out", slide_manifest=tmp_path / "slides.csv")
