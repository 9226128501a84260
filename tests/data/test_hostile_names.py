"""Names in files that others wrote lead nowhere outside their folder."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from patch_sources import draw_patches, write_csv

from data.config import PrepareConfig
from data.errors import InputError
from data.inside import child, is_inside
from data.manifest import read_manifest
from data.patch_hdf5 import read_patches
from data.prepare import prepare


@pytest.fixture
def patches(tmp_path: Path) -> tuple[Path, Path]:
    """A CSV of patches in its folder, and an image beside that folder."""
    home = tmp_path / "home"
    found = draw_patches(home)
    outside = tmp_path / "outside.png"
    (home / found[0].file_name).rename(outside)
    return write_csv(home, found), outside


def _name(csv: Path, old: str, new: str) -> None:
    csv.write_text(csv.read_text().replace(old, new))


@pytest.mark.parametrize("way", ["climbing", "absolute", "link"])
def test_an_image_outside_the_source_is_refused_unless_it_is_allowed(
    patches: tuple[Path, Path], tmp_path: Path, way: str
) -> None:
    csv, outside = patches
    if way == "link":
        (csv.parent / "images" / "p0_0.png").symlink_to(outside)
    else:
        _name(csv, "images/p0_0.png", "../outside.png" if way == "climbing" else str(outside))
    out = tmp_path / "m.parquet"
    with pytest.raises(
        InputError, match=r"line 2: the image lies outside .*home; name the folder.*--outside allow"
    ) as error:
        prepare(PrepareConfig(source=csv, out=out))
    assert "\n" not in str(error.value)
    assert not out.exists()
    prepare(PrepareConfig(source=csv, out=out, outside="allow"))
    assert len(read_manifest(out)) == 24


def test_images_may_lie_in_the_folder_that_is_named(patches: tuple[Path, Path], tmp_path: Path) -> None:
    csv, outside = patches
    away = tmp_path / "away"
    (csv.parent / "images").rename(away)
    outside.rename(away / "p0_0.png")
    _name(csv, "images/", "")
    prepare(PrepareConfig(source=csv, out=tmp_path / "m.parquet", images=away))
    assert len(read_manifest(tmp_path / "m.parquet")) == 24


def test_a_dataset_whose_split_climbs_out_of_its_folder_writes_nothing_there(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, Features, Image, Value

    source = draw_patches(tmp_path, 2)
    rows = [
        {"image": {"bytes": (tmp_path / one.file_name).read_bytes(), "path": "a.png"}, "label": "UD", "patient_id": "p"}
        for one in source
    ]
    kinds = Features({"image": Image(), "label": Value("string"), "patient_id": Value("string")})
    saved = tmp_path / "a" / "b" / "dataset"
    DatasetDict({"train": Dataset.from_list(rows, features=kinds)}).save_to_disk(saved)
    (saved / "train").rename(saved.parent / "evil")
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": ["../evil"]}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="a split is called"):
        prepare(PrepareConfig(source=saved, out=saved.parent / "out.parquet", no_patients=True))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("card", ["../../outside.parquet", "table.csv"])
def test_a_dataset_card_that_names_other_files_is_refused(tmp_path: Path, card: str) -> None:
    import pandas as pd

    folder = tmp_path / "a" / "dataset"
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"file_name": ["a.png"], "label": ["UD"], "patient_id": ["p"]})
    frame.to_parquet(folder / "data.parquet")
    frame.to_parquet(tmp_path / "outside.parquet")
    frame.to_csv(folder / "table.csv")
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {card}\n---\n")
    with pytest.raises(InputError, match="cannot be read as a Hugging Face dataset"):
        prepare(PrepareConfig(source=folder, out=tmp_path / "out.parquet"))


@pytest.mark.parametrize("way", ["link", "external", "virtual"])
def test_coordinates_in_another_file_are_not_read(tmp_path: Path, way: str) -> None:
    other, path = tmp_path / "other.h5", tmp_path / "S1.h5"
    coords = np.array([[0, 0], [64, 0]])
    with h5py.File(other, "w") as file:
        file["coords"] = coords
    raw = tmp_path / "raw.bin"
    raw.write_bytes(coords.astype("<i8").tobytes())
    with h5py.File(path, "w") as file:
        if way == "link":
            file["coords"] = h5py.ExternalLink(str(other), "coords")
        elif way == "external":
            file.create_dataset("coords", coords.shape, "<i8", external=[(str(raw), 0, raw.stat().st_size)])
        else:
            layout = h5py.VirtualLayout(coords.shape, "<i8")
            layout[:] = h5py.VirtualSource(str(other), "coords", coords.shape)
            file.create_virtual_dataset("coords", layout)
    with pytest.raises(InputError, match="coords lie in another file"):
        read_patches(path, size_px=64)


def test_a_child_of_a_folder_is_below_it(tmp_path: Path) -> None:
    assert child(tmp_path, "a/b..c.svs") == tmp_path / "a" / "b..c.svs"
    for name in ("../a", "a/../../b", "/etc/a", ".."):
        with pytest.raises(InputError, match="lies outside"):
            child(tmp_path, name)


def test_files_of_a_snapshot_in_the_hubs_cache_lie_where_its_links_lead(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "repository" / "snapshots" / "0", tmp_path / "repository" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").touch()
    (tmp_path / "2").touch()
    (snapshot / "a.png").symlink_to(blobs / "1")
    (snapshot / "b.png").symlink_to(tmp_path / "2")
    assert is_inside(snapshot / "a.png", snapshot)
    assert not is_inside(snapshot / "b.png", snapshot)
