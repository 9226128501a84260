"""Finding slides in a folder."""

import random
from pathlib import Path

import pydicom
import pytest
from drawn_dicom import write_dicom
from drawn_slide import draw_glass

from data.errors import InputError
from data.find_slides import find_slides, slide_id


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_slides_are_found_at_any_depth_in_sorted_order(tmp_path: Path) -> None:
    names = ["b.SVS", "a/x.tif", "a/x.ndpi", "c/d/e.mrxs", "c/d/e.tiff"]
    for name in [*names, "notes.txt", "a/x.png", ".hidden.svs", ".cache/y.svs"]:
        touch(tmp_path / name)
    assert [slide_id(path, tmp_path) for path in find_slides(tmp_path)] == sorted(names, key=lambda n: Path(n).parts)


def test_equal_names_in_two_folders_have_different_ids(tmp_path: Path) -> None:
    touch(tmp_path / "one" / "slide.svs")
    touch(tmp_path / "two" / "slide.svs")
    assert [slide_id(path, tmp_path) for path in find_slides(tmp_path)] == ["one/slide.svs", "two/slide.svs"]


def test_a_file_is_taken_alone(tmp_path: Path) -> None:
    path = touch(tmp_path / "slide.svs")
    touch(tmp_path / "other.svs")
    assert find_slides(path) == [path]
    assert slide_id(path, path) == "slide.svs"


def test_a_folder_without_slides_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no slide files"):
        find_slides(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        find_slides(tmp_path / "absent")


def test_a_link_to_a_parent_folder_does_not_loop(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "slide.svs")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_slides(tmp_path)) == 1


def test_the_files_of_one_dicom_series_are_one_slide(tmp_path: Path) -> None:
    pixels = draw_glass(width=300, height=260)
    for name in ("one", "two"):
        write_dicom(tmp_path / name, pixels, associated=("LABEL", "OVERVIEW", "THUMBNAIL"))
    first = write_dicom(tmp_path / "flat", pixels)
    for file in first:
        file.rename(file.with_name(f"first-{file.name}"))
    write_dicom(tmp_path / "flat", pixels)
    assert [slide_id(path, tmp_path) for path in find_slides(tmp_path)] == [
        "flat/first-level0.dcm",
        "flat/level0.dcm",
        "one/level0.dcm",
        "two/level0.dcm",
    ]


def test_only_the_headers_of_a_dicom_series_are_read(tmp_path: Path) -> None:
    for file in write_dicom(tmp_path, draw_glass(width=300, height=260)):
        file.write_bytes(file.read_bytes()[:900])
    assert [path.name for path in find_slides(tmp_path)] == ["level0.dcm"]


def test_a_dicom_series_without_tiles_is_listed_once(tmp_path: Path) -> None:
    write_dicom(tmp_path, draw_glass(width=300, height=260), levels=0, associated=("LABEL", "OVERVIEW"))
    assert [path.name for path in find_slides(tmp_path)] == ["a0-label.dcm"]


def test_real_dicom_files_of_other_writers_are_told_apart(tmp_path: Path, real_data: Path) -> None:
    content = (real_data / "slides" / "negative" / "not-tissue.dcm").read_bytes()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(content)
    # It states no image type, and its identifiers are longer than the standard allows.
    other = (real_data / "slides" / "negative" / "unsupported-dicom.dcm").read_bytes()
    (tmp_path / "c.dcm").write_bytes(other)
    assert [path.name for path in find_slides(tmp_path)] == ["a.dcm", "c.dcm"]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_damaged_dicom_files_are_kept_for_opening_to_explain(tmp_path: Path) -> None:
    touch(tmp_path / "empty.dcm")
    (tmp_path / "text.dcm").write_text("not a slide" * 100)
    header = write_dicom(tmp_path, draw_glass(width=300, height=260), levels=1, associated=())[0].read_bytes()[:1500]
    assert [path.name for path in find_slides(tmp_path)] == ["empty.dcm", "level0.dcm", "text.dcm"]
    rng = random.Random(0)
    damaged = [header[:length] for length in range(700)]
    for _ in range(800):
        content = bytearray(header)
        for _ in range(rng.choice([1, 3, 10])):
            content[rng.randrange(128, 700)] = rng.randrange(256)
        damaged.append(bytes(content))
    for number, content in enumerate(damaged):
        folder = tmp_path / "damaged" / str(number)
        folder.mkdir(parents=True)
        (folder / "slide.dcm").write_bytes(content)
    assert len(find_slides(tmp_path / "damaged")) == len(damaged)


@pytest.mark.parametrize("series", ["", None])
def test_dicom_files_that_state_no_series_are_slides_of_their_own(tmp_path: Path, series: str | None) -> None:
    for file in write_dicom(tmp_path, draw_glass(width=300, height=260), associated=()):
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = series
        dataset.save_as(file)
    assert [path.name for path in find_slides(tmp_path)] == ["level0.dcm", "level1.dcm"]
