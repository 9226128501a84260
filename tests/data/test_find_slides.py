"""Finding slides in a folder."""

from pathlib import Path

import pytest

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


def test_the_files_of_one_dicom_series_are_one_slide(tmp_path: Path, real_data: Path) -> None:
    content = (real_data / "slides" / "negative" / "not-tissue.dcm").read_bytes()
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(content)
    touch(tmp_path / "damaged.dcm")
    assert [path.name for path in find_slides(tmp_path)] == ["a.dcm", "damaged.dcm"]
