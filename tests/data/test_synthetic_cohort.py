"""The synthetic cohort on disk."""

import json
from pathlib import Path

import cv2
import pandas as pd
import pytest

from data.errors import InputError
from data.findings import read_findings
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy

SMALL = {"patients": 6, "patches_per_patient": 2, "slides": 1, "slide_px": 1024, "patch_px": 96}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth(SynthConfig(out=tmp_path_factory.mktemp("cohort") / "out", workers=1, **SMALL))


def test_every_patch_has_an_image_a_label_findings_and_a_description(cohort: Path) -> None:
    taxonomy = load_taxonomy()
    labels = pd.read_csv(cohort / "labels.csv")
    assert list(labels) == ["file_name", "patient_id", "label", "description", "mpp", "findings"]
    assert len(labels) == 12
    for row in labels.itertuples():
        image = cv2.imread(str(cohort / str(row.file_name)))
        assert image is not None
        assert image.shape == (96, 96, 3)
        findings = json.loads(str(row.findings))
        assert taxonomy.classify(findings) == row.label
        assert read_findings(str(row.description), taxonomy) == findings
        assert row.mpp == 0.5


def test_patients_are_spread_evenly_over_the_classes(cohort: Path) -> None:
    patients = pd.read_csv(cohort / "labels.csv").drop_duplicates("patient_id")
    assert patients["label"].value_counts().to_dict() == {"UD": 2, "PD": 2, "D": 2}


def test_slides_belong_to_other_patients_and_their_truth_lies_elsewhere(cohort: Path) -> None:
    slides = pd.read_csv(cohort / "slides.csv")
    assert list(slides) == ["slide", "patient_id", "label", "mpp"]
    assert not set(slides["patient_id"]) & set(pd.read_csv(cohort / "labels.csv")["patient_id"])
    assert [p.name for p in (cohort / "slides").iterdir()] == ["S001.tiff"] == list(slides["slide"])
    truth = cv2.imread(str(cohort / "truth" / "S001.png"), cv2.IMREAD_UNCHANGED)
    assert truth is not None
    assert truth.shape == (64, 64)
    assert truth.max() <= 5


def test_workers_do_not_change_a_byte(cohort: Path, tmp_path: Path) -> None:
    synth(SynthConfig(out=tmp_path / "out", workers=2, **SMALL))
    assert contents(tmp_path / "out") == contents(cohort)


def test_another_seed_gives_another_cohort(cohort: Path, tmp_path: Path) -> None:
    synth(SynthConfig(out=tmp_path / "out", workers=1, seed=1, **SMALL | {"slides": 0, "patients": 1}))
    name = "patches/P001/001.jpg"
    assert (tmp_path / "out" / name).read_bytes() != (cohort / name).read_bytes()
    assert len(pd.read_csv(tmp_path / "out" / "slides.csv")) == 0


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        synth(SynthConfig(out=tmp_path, **SMALL))
    assert contents(tmp_path) == {"thesis.txt": b"chapter one"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("patients", -1), ("workers", 0), ("slide_px", 1030), ("slide_px", 100), ("mpp", 40.0), ("taxonomy", "nothing")],
)
def test_a_setting_out_of_range_is_named_before_anything_is_written(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(InputError, match=str(value)):
        synth(SynthConfig(**{"out": tmp_path / "out", **SMALL, field: value}))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
