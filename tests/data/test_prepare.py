"""Labelled patches become a manifest, and what is wrong with them is said before any training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.config import PrepareConfig
from data.errors import InputError
from data.manifest import image_path, read_manifest, write_manifest
from data.prepare import prepare


@pytest.fixture
def labels(tmp_path: Path) -> pd.DataFrame:
    """Twelve patients of three classes with two patches each, on disk below `tmp_path`."""
    random = np.random.default_rng(0)
    rows = []
    for patient in range(12):
        for patch in range(2):
            name = f"images/p{patient}/{patch}.png"
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)
            rows.append(
                {
                    "file_name": name,
                    "patient_id": f"p{patient}",
                    "label": ("UD", "PD", "D")[patient % 3],
                    "description": "Scant neuropil.",
                    "findings": json.dumps({"neuropil": "scant"}),
                    "mpp": "0.5",
                }
            )
    return pd.DataFrame(rows)


def run(folder: Path, labels: pd.DataFrame, **settings: object) -> Path:
    labels.to_csv(folder / "labels.csv", index=False)
    out = folder / "sub" / "patches.parquet"
    return prepare(PrepareConfig(source=folder / "labels.csv", out=out, **settings))  # type: ignore[arg-type]


def test_the_manifest_keeps_every_row_and_finds_its_images(tmp_path: Path, labels: pd.DataFrame) -> None:
    manifest = run(tmp_path, labels)
    frame = read_manifest(manifest)
    assert len(frame) == len(labels)
    assert list(frame["patch_id"]) == list(labels["file_name"])
    assert all(image_path(manifest, image).is_file() for image in frame["image"])
    assert frame["findings"].iloc[0] == {"neuropil": "scant"}
    assert set(frame["size_px"]) == {16}
    assert set(frame["mpp"]) == {0.5}


def test_patients_stay_together_and_every_split_sees_every_class(tmp_path: Path, labels: pd.DataFrame) -> None:
    frame = read_manifest(run(tmp_path, labels))
    assert (frame.groupby("patient_id")["split"].nunique() == 1).all()
    assert (frame.groupby("split")["label"].nunique() == 3).all()
    assert set(frame["split"]) == {"train", "val", "test"}


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tmp_path: Path, labels: pd.DataFrame) -> None:
    splits = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        labels.to_csv(tmp_path / "labels.csv", index=False)
        out = tmp_path / f"{name}.parquet"
        prepare(PrepareConfig(source=tmp_path / "labels.csv", out=out, seed=seed))
        splits.append(list(read_manifest(out)["split"]))
    assert splits[0] == splits[1] != splits[2]


def test_a_given_split_is_kept(tmp_path: Path, labels: pd.DataFrame) -> None:
    labels["split"] = ["test" if name < "p5" else "train" for name in labels["patient_id"]]
    assert list(read_manifest(run(tmp_path, labels))["split"]) == list(labels["split"])


def test_descriptions_may_be_left_out_when_asked(tmp_path: Path, labels: pd.DataFrame) -> None:
    labels.loc[3, "description"] = " "
    frame = read_manifest(run(tmp_path, labels, descriptions="optional"))
    assert frame["description"].isna().sum() == 1


def test_the_papers_column_names_are_read(tmp_path: Path, labels: pd.DataFrame) -> None:
    frame = read_manifest(run(tmp_path, labels.rename(columns={"label": "class"})))
    assert list(frame["label"]) == list(labels["label"])


def _truncate(folder: Path, labels: pd.DataFrame) -> None:
    file = folder / labels["file_name"].iloc[5]
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f, t: t.drop(columns="label"), r"labels\.csv: column label is missing"),
        (lambda f, t: t.drop(columns="patient_id"), r"labels\.csv: column patient_id is missing"),
        (lambda f, t: t.drop(t.index), r"labels\.csv: the CSV has no rows"),
        (lambda f, t: t.__setitem__("label", "XX"), r"labels\.csv, line 2: label XX .* \(and 23 more rows\)"),
        (
            lambda f, t: t.loc.__setitem__((4, "description"), ""),
            r"line 6: the description of images/p2/0\.png is empty",
        ),
        (lambda f, t: t.loc.__setitem__((4, "file_name"), "gone.png"), r"gone\.png: no such image"),
        (_truncate, r"p2/1\.png: cannot be read as an image"),
        (lambda f, t: t.loc.__setitem__((1, "file_name"), t.loc[0, "file_name"]), "line 3: file_name occurs a second"),
        (lambda f, t: t.loc.__setitem__((1, "findings"), "{"), "line 3: findings is not JSON"),
        (lambda f, t: t.loc.__setitem__((2, "mpp"), "half"), "line 4: mpp is not a number"),
        (lambda f, t: t.loc.__setitem__((2, "mpp"), "-3"), "line 4: mpp is implausible"),
        (lambda f, t: t.__setitem__("x", "1.5"), "line 2: x is not a whole number"),
        (lambda f, t: t.__setitem__("split", "training"), "line 2: split is unknown"),
        (lambda f, t: t.loc.__setitem__((1, "file_name"), "./" + t.loc[0, "file_name"]), "line 3: file_name occurs"),
        (lambda f, t: t.loc.__setitem__((1, "findings"), '{"foo": "bar"}'), "line 3: foo is not a finding"),
        (
            lambda f, t: t.loc.__setitem__((1, "findings"), '{"neuropil": "bar"}'),
            "line 3: bar is not a value of neuropil",
        ),
        (lambda f, t: t.__setitem__("split", ["train", "test"] * 12), "patient p0 is in the splits test and train"),
        (lambda f, t: t.__setitem__("patient_id", "one"), "1 patients cannot fill train, val and test"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(tmp_path, labels, damage, message) -> None:  # type: ignore[no-untyped-def]
    damaged = damage(tmp_path, labels)
    with pytest.raises(InputError, match=message) as caught:
        run(tmp_path, labels if damaged is None else damaged)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sub" / "patches.parquet").exists()


def test_a_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        prepare(PrepareConfig(source=tmp_path / "none.csv", out=tmp_path / "m.parquet"))


def test_a_manifest_of_other_rows_is_never_replaced(tmp_path: Path, labels: pd.DataFrame) -> None:
    manifest = run(tmp_path, labels)
    before = manifest.read_bytes()
    assert run(tmp_path, labels) == manifest
    with pytest.raises(InputError, match="holds a manifest of other rows or splits"):
        run(tmp_path, labels.iloc[:-2])
    assert manifest.read_bytes() == before


def test_a_manifest_with_a_patient_in_two_splits_is_refused_when_read(tmp_path: Path, labels: pd.DataFrame) -> None:
    manifest = run(tmp_path, labels)
    frame = read_manifest(manifest)
    frame.loc[0, "split"] = "test" if frame.loc[1, "split"] != "test" else "train"
    write_manifest(frame, manifest)
    with pytest.raises(InputError, match=r"patches\.parquet: patient p0 is in the splits"):
        read_manifest(manifest)


def test_a_file_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_text("hello")
    with pytest.raises(InputError, match=r"m\.parquet: not a Parquet manifest"):
        read_manifest(tmp_path / "m.parquet")
