"""A folder of folders with images and a CSV each is read as one source: the layout of the paper's release."""

import shutil
from pathlib import Path

import pytest
from patch_sources import draw_patches

from data.command import make_config
from data.config import PrepareConfig
from data.errors import InputError
from data.manifest import image_path, read_manifest
from data.prepare import prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every fourth patch with a description in one folder, the others with their class alone in the other."""
    patches = draw_patches(tmp_path)
    small, large = ["file_name,description,class"], ["file_name,class"]
    for number, patch in enumerate(patches):
        name, described = Path(patch.file_name).name, number % 4 == 0
        images = tmp_path / "data" / ("NBITP-1.5K" if described else "NBPath-7.5K") / "images"
        images.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / patch.file_name, images / name)
        line = [name, f'"{patch.description}"', patch.label] if described else [name, patch.label]
        (small if described else large).append(",".join(line))
    for name, lines in (("NBITP-1.5K", small), ("NBPath-7.5K", large)):
        (tmp_path / "data" / name / "descriptions.csv").write_text("\n".join(lines))
    return tmp_path / "data"


def config(folder: Path, **settings: object) -> PrepareConfig:
    """The paper's settings for `folder`."""
    given: dict[str, object] = {"source": folder, "out": folder.parent / "m.parquet", "patient_pattern": r"/(p\d+)_"}
    return make_config(PrepareConfig, name="prepare", config="paper", **given | settings)


def test_the_papers_folders_become_one_manifest_in_which_a_patient_is_in_one_split(folder: Path) -> None:
    out = prepare(config(folder))
    frame = read_manifest(out)
    described = frame["patch_id"].str.startswith("NBITP-1.5K/images/")
    assert (len(frame), described.sum()) == (24, 6)
    assert list(frame["description"].notna()) == list(described)
    assert set(frame["description"].dropna()) == {f"Scant neuropil, number {number}." for number in range(0, 24, 4)}
    assert all(image_path(out, image).is_file() for image in frame["image"])
    # Half of the patients have patches in both folders.
    assert frame.groupby("patient_id")["split"].nunique().max() == 1
    assert set(frame["split"]) == {"train", "val", "test"}


def test_one_of_the_folders_can_be_prepared_alone(folder: Path) -> None:
    frame = read_manifest(prepare(config(folder / "NBITP-1.5K")))
    assert [name.partition("/")[0] for name in frame["patch_id"]] == ["images"] * 6
    assert frame["description"].notna().all()


def test_names_may_start_with_the_folder_of_images_too(folder: Path) -> None:
    table = folder / "NBPath-7.5K" / "descriptions.csv"
    table.write_text(table.read_text().replace("\np", "\nimages/p"))
    assert len(read_manifest(prepare(config(folder)))) == 24


def test_a_mistake_is_named_by_its_folder_and_line(folder: Path) -> None:
    table = folder / "NBPath-7.5K" / "descriptions.csv"
    table.write_text(table.read_text().replace(",PD", ",U", 1))
    line = next(n for n, text in enumerate(table.read_text().splitlines(), 1) if text.endswith(",U"))
    with pytest.raises(InputError, match=rf"data, NBPath-7\.5K/descriptions\.csv, line {line}: label U is not a class"):
        prepare(config(folder))


def test_an_image_that_is_missing_is_sought_in_the_folder_of_images(folder: Path) -> None:
    (folder / "NBPath-7.5K" / "images" / "p0_1.png").unlink()
    with pytest.raises(InputError, match=r"NBPath-7\.5K/images/p0_1\.png: no such image"):
        prepare(config(folder))


@pytest.mark.parametrize("name", ["x" * 5000, "\x00.png", "..", "images"])
def test_a_name_that_no_file_can_have_is_refused(folder: Path, name: str) -> None:
    table = folder / "NBPath-7.5K" / "descriptions.csv"
    table.write_text(table.read_text() + f"\n{name},UD")
    with pytest.raises(InputError, match=r"NBPath-7\.5K/descriptions\.csv, line 20: "):
        prepare(config(folder, patient_pattern=None, no_patients=True))


def test_images_without_a_csv_are_not_left_out_unsaid(folder: Path) -> None:
    (folder / "NBPath-7.5K" / "descriptions.csv").unlink()
    with pytest.raises(InputError, match=r"NBPath-7\.5K: holds images but no CSV; add one with the columns file_name"):
        prepare(config(folder))


def test_of_two_tables_none_is_guessed(folder: Path) -> None:
    (folder / "NBITP-1.5K" / "results.csv").write_text("file_name,description\n")
    with pytest.raises(InputError, match=r"NBITP-1\.5K: holds 2 CSV files \(descriptions\.csv, results\.csv\); keep"):
        prepare(config(folder))


def test_an_image_that_is_in_both_folders_is_in_one_split(folder: Path) -> None:
    shutil.copy(folder / "NBITP-1.5K" / "images" / "p0_0.png", folder / "NBPath-7.5K" / "images" / "other.png")
    table = folder / "NBPath-7.5K" / "descriptions.csv"
    table.write_text(table.read_text() + "\nother.png,UD")
    frame = read_manifest(prepare(config(folder, patient_pattern=None, no_patients=True))).set_index("patch_id")
    both = frame.loc[["NBITP-1.5K/images/p0_0.png", "NBPath-7.5K/images/other.png"]]
    assert both["split"].nunique() == both["patient_id"].nunique() == 1
