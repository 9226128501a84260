"""The pipeline of Python calls a slide as `mmlnb infer` does, and says of what its models were trained on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openslide
import pandas as pd
import pyarrow.parquet as pq
import pytest
from cut_slide import cut_slide
from infer_outputs import predictions, table

import mmlnb
from data.errors import InputError
from data.prepared_slide import NotForUs
from mmlnb import Pipeline
from mmlnb.slide_record import find_record

NOTICE = "The models were trained on synthetic tissue only."


@pytest.fixture(scope="module")
def slide(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small slide with real tissue."""
    return cut_slide(real_data, tmp_path_factory.mktemp("slides") / "a.tiff")


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    """The models of the embedded bundle."""
    with Pipeline.from_pretrained(workers=1) as found:
        yield found


@pytest.fixture(scope="module")
def out(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mmlnb infer` writes of the slide, without any setting."""
    folder = tmp_path_factory.mktemp("called") / "out"
    assert mmlnb.infer(slide, folder, hdf5=True) == 0
    return folder


def test_a_slide_is_called_as_the_command_calls_it(pipeline: Pipeline, slide: Path, out: Path) -> None:
    result = pipeline(slide)
    pd.testing.assert_frame_equal(result.patches, predictions(out, "a.tiff"), check_exact=True)
    record = find_record(out, "a.tiff")
    assert record is not None
    assert (result.slide, result.subtype, result.probabilities) == ("a.tiff", record.subtype, record.probabilities)
    assert (result.captioned, result.left_out) == (record.captioned, record.rejected)
    assert (result.mpp, result.mpp_origin, result.remarks) == (record.mpp, record.mpp_origin, record.reason)
    page = json.loads((out / "slides" / "a.tiff.json").read_text())
    assert result.summary == page["summary"]
    for shown in page["classes"]:
        assert list(result.intervals[shown["class"]] or ()) == (shown["interval"] or [])
        assert result.image_probabilities[shown["class"]] == shown["image"]
    stated = {(count["subject"], count["value"]): count["patches"] for count in page["counts"]}
    for finding in result.findings:
        for value, patches in finding.patches.items():
            assert stated.get((finding.title, value), 0) == len(patches)
    assert sum(len(patches) for finding in result.findings for patches in finding.patches.values()) > 0


def test_the_same_slide_gives_the_same_bytes_again(slide: Path, out: Path, tmp_path: Path) -> None:
    assert mmlnb.infer(slide, tmp_path / "again", hdf5=True) == 0
    for name in ("predictions/a.tiff.parquet", "tiles/a.tiff.parquet", "geojson/a.tiff.geojson", "slides/a.tiff.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes(), name


def test_every_output_says_what_the_models_were_trained_on(out: Path) -> None:
    texts = ("index.html", "index.json", "index.csv", "summary.md", "slides.csv", "records/a.tiff.json")
    for name in (*texts, "slides/a.tiff.html", "slides/a.tiff.json", "slides/a.tiff.csv", "geojson/a.tiff.geojson"):
        assert NOTICE in (out / name).read_text(), name
    assert table(out)["a.tiff"]["notice"] == NOTICE
    for name in ("predictions/a.tiff.parquet", "tiles/a.tiff.parquet"):
        assert pq.read_schema(out / name).metadata[b"notice"].decode() == NOTICE, name
    with h5py.File(out / "hdf5" / "a.tiff.h5") as file:
        assert file["coords"].attrs["notice"].decode() == NOTICE
        assert file["features"].attrs["notice"] == NOTICE
    # What is not in this list was forgotten.
    silent = {"run.json", "config.yaml"}
    known = {*texts, *silent}
    assert {path.name for path in out.iterdir() if path.is_file()} <= {*known}
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        *("geojson", "hdf5", "predictions", "records", "slides", "tiles")
    }


def test_patches_are_described_and_classified_as_those_of_a_slide(pipeline: Pipeline, slide: Path) -> None:
    found = pipeline(slide)
    with openslide.OpenSlide(slide) as opened:
        images = [
            np.asarray(opened.read_region((x, y), 0, (224, 224)).convert("RGB"))
            for x, y in zip(found.patches["x"], found.patches["y"], strict=True)
        ]
    result = pipeline.patches(images)
    np.testing.assert_allclose(result.fused, found.patches[["p_UD", "p_PD", "p_D"]], atol=1e-5)
    np.testing.assert_allclose(result.image, found.patches[["image_p_UD", "image_p_PD", "image_p_D"]], atol=1e-5)
    assert list(result.texts) == found.patches["text"].tolist()
    assert result.calls == tuple(np.array(result.class_names)[result.fused.argmax(axis=1)])
    assert any(stated for stated in result.findings)
    assert (result.notice, result.bundle) == (NOTICE, found.bundle)
    assert pipeline.patches([]).fused.shape == (0, 3)


def test_a_slide_that_cannot_be_used_is_an_error_that_names_it_and_the_next_one_is_called(
    pipeline: Pipeline, slide: Path, real_data: Path, tmp_path: Path
) -> None:
    unstated = cut_slide(real_data, tmp_path / "unstated.tiff", mpp=None)
    with pytest.raises(InputError, match=r"unstated\.tiff: .*--mpp"):
        pipeline(unstated)
    assert pipeline(unstated, mpp=0.5).mpp == 0.5
    negative = real_data / "slides" / "negative"
    with pytest.raises(NotForUs, match=r"fluorescence-DAPI\.ndpi: .*not H&E"):
        pipeline(negative / "fluorescence-DAPI.ndpi")
    with pytest.raises(InputError, match=r"empty\.svs: .*cannot open"):
        pipeline(negative / "empty.svs")
    with pytest.raises(InputError, match=r"holds .* slides; give one"):
        pipeline(negative)
    assert pipeline(slide).subtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bundle": "nowhere"}, "nowhere: holds no bundle"),
        ({"bundle": "hf:lab/none"}, "hf:lab/none: no such bundle on this machine; fetch it with `mmlnb bundle pull"),
        ({"bundle": "hf:none"}, "none: no repository on the hub"),
        ({"batch_size": 0}, "--batch_size 0: give 1 or more"),
        ({"hdf5": True}, "hdf5: is for a whole folder"),
        ({"captions": "none"}, "unknown setting captions; the nearest is caption"),
    ],
)
def test_a_pipeline_that_cannot_be_made_says_why(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline.from_pretrained(**settings)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3))])
def test_what_is_no_patch_is_named_by_its_number(pipeline: Pipeline, image: np.ndarray) -> None:
    good = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"images\[1\]: .* give square RGB uint8"):
        pipeline.patches([good, image])
