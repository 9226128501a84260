"""What is wrong with a source is said completely before any model is loaded, and what will be trained on is shown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from patch_sources import Patch, draw_patches, write_csv, write_llava

from data.config import PrepareConfig
from data.errors import InputError
from data.manifest import read_manifest
from data.prepare import prepare

OSTEOSARCOMA = """
name: osteosarcoma
tissue: osteosarcoma
findings:
  osteoid:
    terms: [osteoid]
    values: {absent: {phrases: ["no osteoid"]}, present: {phrases: ["osteoid"]}}
classes:
  Viable: {title: Viable tumour}
  Non-Viable-Tumor: {title: Non-viable tumour}
  Non-Tumor: {title: No tumour}
"""


@pytest.fixture
def patches(tmp_path: Path) -> list[Patch]:
    return draw_patches(tmp_path)


def run(folder: Path, patches: list[Patch], **settings: object) -> Path:
    return prepare(PrepareConfig(source=write_csv(folder, patches), out=folder / "m.parquet", **settings))  # type: ignore[arg-type]


def without_patients(folder: Path) -> Path:
    """`patches.csv` without its patients."""
    import pandas as pd

    path = folder / "patches.csv"
    pd.read_csv(path, dtype=str).drop(columns="patient_id").to_csv(path, index=False)
    return path


def test_all_mistakes_are_found_in_one_pass(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        patches[number] = replace(patches[number], label="XX")
    patches[8] = replace(patches[8], description=" ")
    patches[9] = replace(patches[9], mpp="half")
    patches[10] = replace(patches[10], findings='{"foo": "bar"}')
    patches[11] = replace(patches[11], file_name="gone.png")
    truncated = tmp_path / patches[12].file_name
    truncated.write_bytes(truncated.read_bytes()[:-40])
    (tmp_path / patches[13].file_name).write_text("not an image")
    shutil.copy(tmp_path / patches[14].file_name, tmp_path / patches[20].file_name)
    with pytest.raises(
        InputError, match=r"line 2: label XX .* \(and 6 more rows\).*; 6 other kinds of mistake"
    ) as caught:
        run(tmp_path, patches)
    assert "\n" not in str(caught.value)
    listed = capsys.readouterr().err
    for line in (
        "7 rows (line 2, line 3, line 4, line 5, line 6, …): label XX is not a class of neuroblastoma",
        "1 row (line 10): the description of images/p4_8.png is empty",
        "1 row (line 11): mpp is not a number",
        "1 row (line 12): foo is not a finding",
        "1 image (line 13): ",
        "gone.png: no such image; correct the path",
        "2 images (line 14, line 15): ",
        "p6_12.png: cannot be read as an image",
        "1 image (line 22): images/p10_20.png holds the same pixels as images/p7_14.png of another patient",
    ):
        assert line in listed
    assert not (tmp_path / "m.parquet").exists()


def test_a_source_that_states_no_patients_is_refused_with_the_remedies(tmp_path: Path, patches: list[Patch]) -> None:
    write_csv(tmp_path, patches)
    with pytest.raises(InputError, match=r"patient_id is missing .*--patient-pattern REGEX .*--no-patients"):
        prepare(PrepareConfig(source=without_patients(tmp_path), out=tmp_path / "m.parquet"))


def test_patients_are_read_from_file_names(tmp_path: Path, patches: list[Patch]) -> None:
    write_csv(tmp_path, patches)
    source = without_patients(tmp_path)
    frame = read_manifest(
        prepare(PrepareConfig(source=source, out=tmp_path / "m.parquet", patient_pattern=r"(p\d+)_\d+\.png$"))
    )
    assert list(frame["patient_id"]) == [patch.patient_id for patch in patches]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patient_pattern": "("}, "not a regular expression"),
        ({"patient_pattern": r"p\d+"}, "put the patient in parentheses"),
        ({"patient_pattern": r"(p1?\d)_"}, None),
        ({"patient_pattern": r"(q\d+)_"}, r"line 2: --patient-pattern finds no patient in .* \(and 23 more rows\)"),
        ({"patient_pattern": r"p(x?)"}, r"line 2: --patient-pattern finds no patient in"),
        ({"patient_pattern": r"(p)", "no_patients": True}, "by --patient-pattern and by --no-patients; keep one"),
    ],
)
def test_a_pattern_that_finds_no_patient_is_refused(
    tmp_path: Path, patches: list[Patch], settings: dict[str, object], message: str | None
) -> None:
    write_csv(tmp_path, patches)
    config = PrepareConfig(source=without_patients(tmp_path), out=tmp_path / "m.parquet", **settings)  # type: ignore[arg-type]
    if message is None:
        prepare(config)
    else:
        with pytest.raises(InputError, match=message):
            prepare(config)


def test_a_pattern_beside_stated_patients_is_refused(tmp_path: Path, patches: list[Patch]) -> None:
    with pytest.raises(InputError, match="patients are given by a column patient_id and by --patient-pattern"):
        run(tmp_path, patches, patient_pattern="(p)")


def test_without_patients_images_of_the_same_pixels_stay_together(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1, 24, 2):
        shutil.copy(tmp_path / patches[number - 1].file_name, tmp_path / patches[number].file_name)
    write_csv(tmp_path, patches)
    out = prepare(PrepareConfig(source=without_patients(tmp_path), out=tmp_path / "m.parquet", no_patients=True))
    frame = read_manifest(out)
    assert frame["patient_id"].nunique() == 12
    assert list(frame["patient_id"][::2]) == list(frame["patient_id"][1::2])
    assert "24 images hold the same pixels as another, 12 different ones" in capsys.readouterr().out


def test_the_same_pixels_in_one_patient_are_reported_only(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(tmp_path / patches[0].file_name, tmp_path / patches[1].file_name)
    run(tmp_path, patches)
    assert (
        "2 images hold the same pixels as another, 1 different ones (first: images/p0_0.png" in capsys.readouterr().out
    )


def test_the_same_pixels_in_two_given_splits_are_an_error(tmp_path: Path, patches: list[Patch]) -> None:
    shutil.copy(tmp_path / patches[0].file_name, tmp_path / patches[23].file_name)
    path = write_llava(tmp_path, patches)
    entries = json.loads(path.read_text())
    for number, entry in enumerate(entries):
        entry["split"] = "train" if number < 20 else "test"
    path.write_text(json.dumps(entries))
    with pytest.raises(
        InputError, match=r"entry 24: images/p11_23\.png holds the same pixels as images/p0_0\.png of another split"
    ):
        prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet"))


def test_repeated_descriptions_are_counted_whatever_their_case_and_spaces(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate(("Scant neuropil.", "scant  neuropil.", " SCANT\nNEUROPIL. ")):
        patches[number] = replace(patches[number], description=text)
    run(tmp_path, patches)
    assert "3 of 24 descriptions repeat another one (1 texts; 3 ×: scant neuropil.)" in capsys.readouterr().out


def test_a_class_in_a_description_is_reported_and_can_be_masked(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(0, 24, 6):
        patches[number] = replace(patches[number], description=f"An undifferentiated neuroblastoma, case {number}.")
    patches[1] = replace(patches[1], description="Not PD, and not D.")
    frame = read_manifest(run(tmp_path, patches))
    line = "leakage: 5 of 24 descriptions (21%) name a class outright (UD 4, PD 1, D 1; in 4 it is their own)"
    assert f"{line}; --mask-classes replaces the words" in capsys.readouterr().out
    assert frame["description"][0] == "An undifferentiated neuroblastoma, case 0."
    (tmp_path / "m.parquet").unlink()
    frame = read_manifest(run(tmp_path, patches, mask_classes=True))
    assert f"{line}; replaced in 6 places" in capsys.readouterr().out
    assert frame["description"][0] == "This tumour, case 0."
    assert frame["description"][1] == "Not this tumour, and not this tumour."


def test_what_will_be_trained_on_is_shown_by_split_and_class(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    patches[0] = replace(patches[0], description="")
    path = write_llava(tmp_path, patches)
    entries = json.loads(path.read_text())
    for entry in entries:
        entry["split"] = "test" if entry["patient_id"] == "p11" else "train"
    path.write_text(json.dumps(entries))
    prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet", descriptions="optional"))
    out = capsys.readouterr().out
    rows = [line.split()[-5:] for line in out.splitlines()]
    assert ["UD", "4", "8", "7", "4.0"] in rows
    assert ["all", "11", "22", "21", "4.0"] in rows
    assert ["D", "1", "2", "2", "4.0"] in rows
    assert "fine-tuning has 21 pairs to train on and 0 to validate, the fusion 22 labelled patches and 0" in out
    assert "its chats ask 1 question, which fine-tuning does not use" in out


def test_images_may_lie_in_another_folder_than_the_listing(tmp_path: Path) -> None:
    patches = draw_patches(tmp_path / "far")
    frame = read_manifest(run(tmp_path, patches, images=tmp_path / "far"))
    assert frame["image"][0] == "far/images/p0_0.png"
    assert frame["patch_id"][0] == "images/p0_0.png"


def test_real_patches_are_prepared_with_the_patients_of_their_names(
    tmp_path: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "osteosarcoma.yaml").write_text(OSTEOSARCOMA)
    names = sorted(path.name for path in (real_data / "osteosarcoma").glob("*.jpg"))
    lines = [f"{name}, Osteoid in patch {i}., {name.partition('___')[0]}" for i, name in enumerate(names)]
    (tmp_path / "release.csv").write_text("\n".join(["file_name, description, class", *lines]))
    frame = read_manifest(
        prepare(
            PrepareConfig(
                source=tmp_path / "release.csv",
                out=tmp_path / "m.parquet",
                taxonomy=str(tmp_path / "osteosarcoma.yaml"),
                images=real_data / "osteosarcoma",
                patient_pattern=r"___(Case-\d+|P\d+)-",
            )
        )
    )
    assert set(frame["patient_id"]) == {"Case-3", "Case-4", "Case-48", "P9"}
    assert set(frame["size_px"]) == {1024}
    assert (frame.groupby("patient_id")["split"].nunique() == 1).all()
    assert "leakage" not in capsys.readouterr().out
