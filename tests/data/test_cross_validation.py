"""Folds: every patient is tested once, classes are spread, inner folds never touch who is tested."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.config import SplitConfig
from data.cross_validation import split
from data.errors import InputError
from data.manifest import COLUMNS, image_path, read_manifest, write_manifest

CLASSES = ("UD", "PD", "D")


def make_manifest(folder: Path, *, patients: int = 30, patches: int = 2, sites: int = 5) -> Path:
    """Patients of three classes, dealt to sites, in an order that is not that of their names."""
    random = np.random.default_rng(0)
    rows = []
    (folder / "images").mkdir(parents=True)
    for number in random.permutation(patients * patches):
        patient = int(number) // patches
        coarse = Image.fromarray(random.integers(40, 220, (14, 14, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.png")
        rows.append(
            dict.fromkeys(COLUMNS)
            | {
                "patch_id": f"patch-{number}",
                "image": f"images/{number}.png",
                "patient_id": f"s{patient % sites}-p{patient:02}",
                "size_px": 64,
                "mpp": 0.5,
                "label": CLASSES[patient % 3],
                "split": ("train", "train", "train", "val", "test")[patient // 6],
            }
        )
    write_manifest(pd.DataFrame(rows), folder / "patches.parquet")
    return folder / "patches.parquet"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path / "data")


@pytest.fixture
def config(manifest: Path, tmp_path: Path) -> SplitConfig:
    return SplitConfig(manifest=manifest, out=tmp_path / "folds")


def patients(frame: pd.DataFrame, role: str) -> set[str]:
    return set(frame.loc[frame["split"] == role, "patient_id"])


def fold(out: Path, number: int, inner: int = 0) -> pd.DataFrame:
    return read_manifest(out / f"fold-{number}" / (f"inner-{inner}" if inner else "") / "patches.parquet")


def test_every_patient_is_tested_once_and_every_fold_sees_every_class(config: SplitConfig) -> None:
    out = split(config)
    whole = read_manifest(config.manifest)
    tested: list[str] = []
    for number in range(1, 6):
        frame = fold(out, number)
        assert sorted(frame["patch_id"]) == sorted(whole["patch_id"])
        for role in ("train", "val", "test"):
            assert set(frame.loc[frame["split"] == role, "label"]) == set(CLASSES)
        assert frame.loc[frame["split"] == "test"].groupby("label")["patient_id"].nunique().to_dict() == {
            "UD": 2, "PD": 2, "D": 2,
        }  # fmt: skip
        assert 3 <= len(patients(frame, "val")) <= 6
        tested += patients(frame, "test")
    assert sorted(tested) == sorted(set(whole["patient_id"]))


def test_a_fold_is_a_manifest_that_finds_its_images_and_keeps_their_hashes(config: SplitConfig) -> None:
    out = split(replace(config, inner=2))
    for path in (out / "fold-2" / "patches.parquet", out / "fold-2" / "inner-1" / "patches.parquet"):
        frame = read_manifest(path)
        assert all(image_path(path, image).is_file() for image in frame["image"])
        assert frame["pixel_hash"].notna().all()


def test_inner_folds_validate_each_other_patient_once_and_hold_nobody_who_is_tested(config: SplitConfig) -> None:
    out = split(replace(config, inner=3))
    for number in range(1, 6):
        tested = patients(fold(out, number), "test")
        rest = set(fold(out, number)["patient_id"]) - tested
        validated: list[str] = []
        for inner in range(1, 4):
            frame = fold(out, number, inner)
            assert set(frame["split"]) == {"train", "val"}
            assert set(frame["patient_id"]) == rest
            assert set(frame.loc[frame["split"] == "val", "label"]) == set(CLASSES)
            validated += patients(frame, "val")
        assert sorted(validated) == sorted(rest)


def test_folds_are_saved_as_data_that_agrees_with_the_manifests(config: SplitConfig) -> None:
    out = split(replace(config, inner=2))
    table = pd.read_parquet(out / "folds.parquet")
    assert list(table) == ["fold", "inner", "patient_id", "site", "label", "patches", "role"]
    for (number, inner), rows in table.groupby(["fold", "inner"]):
        frame = fold(out, number, inner)
        assert dict(zip(rows["patient_id"], rows["role"], strict=True)) == dict(
            zip(frame["patient_id"], frame["split"], strict=True)
        )
        assert rows["patches"].sum() == len(frame)
    assert table["fold"].nunique() == 5 and set(table["inner"]) == {0, 1, 2}


def test_the_seed_fixes_the_folds_whatever_the_order_of_the_rows(config: SplitConfig, tmp_path: Path) -> None:
    first = pd.read_parquet(split(replace(config, inner=2)) / "folds.parquet")
    shuffled = tmp_path / "data" / "shuffled.parquet"
    write_manifest(read_manifest(config.manifest).sample(frac=1, random_state=1), shuffled)
    again = pd.read_parquet(split(replace(config, inner=2, manifest=shuffled, out=tmp_path / "b")) / "folds.parquet")
    pd.testing.assert_frame_equal(first, again)
    other = pd.read_parquet(split(replace(config, inner=2, seed=1, out=tmp_path / "c")) / "folds.parquet")
    assert not first["role"].equals(other["role"])


def test_a_finished_split_is_left_as_it_is_and_another_is_refused(
    config: SplitConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    out = split(config)
    before = (out / "folds.parquet").stat().st_mtime_ns
    split(config)
    assert (out / "folds.parquet").stat().st_mtime_ns == before
    assert "already split" in capsys.readouterr().out
    with pytest.raises(InputError, match="holds a run with other settings"):
        split(replace(config, folds=4))


def test_whole_sites_are_held_out(config: SplitConfig) -> None:
    out = split(replace(config, by="site", site_pattern="^(s[0-9])-", inner=2))
    table = pd.read_parquet(out / "folds.parquet")
    assert (table.groupby(["fold", "inner", "site"])["role"].nunique() == 1).all()
    tested = table[(table["inner"] == 0) & (table["role"] == "test")]
    assert sorted(tested.groupby("fold")["site"].first()) == [f"s{number}" for number in range(5)]
    assert set(fold(out, 1)["site"]) == {f"s{number}" for number in range(5)}


def test_rows_of_other_splits_stay_out_of_every_fold(config: SplitConfig, capsys: pytest.CaptureFixture[str]) -> None:
    kept = patients(read_manifest(config.manifest), "test")
    out = split(replace(config, splits=("train", "val")))
    assert not kept & set(pd.read_parquet(out / "folds.parquet")["patient_id"])
    assert not kept & set(fold(out, 1)["patient_id"])
    assert "12 patches of other splits than train, val left out" in capsys.readouterr().out


def test_few_patients_are_dealt_too_and_classes_that_a_fold_cannot_test_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_manifest(tmp_path / "few", patients=7)
    out = split(SplitConfig(manifest=manifest, out=tmp_path / "folds", folds=3))
    for number in (1, 2, 3):
        assert set(fold(out, number)["split"]) == {"train", "val", "test"}
    frame = read_manifest(manifest)
    frame = frame[(frame["label"] != "D") | (frame["patient_id"] == "s2-p02")]
    write_manifest(frame, tmp_path / "few" / "fewer.parquet")
    split(SplitConfig(manifest=tmp_path / "few" / "fewer.parquet", out=tmp_path / "fewer", folds=3))
    assert "class D has 1 patients; without any in the test of fold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 31}, "30 patients cannot fill 31 folds; ask for fewer"),
        ({"folds": 5, "inner": 25}, "24 patients cannot fill 25 folds"),
        ({"by": "site"}, "has no site; fill in the column site"),
        ({"by": "site", "site_pattern": "^(s[0-9])-", "folds": 6}, "5 sites cannot fill 6 folds"),
        ({"splits": ("other",)}, "no rows in the splits other"),
    ],
)
def test_what_cannot_be_dealt_is_refused_with_the_remedy(
    config: SplitConfig, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(replace(config, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"folds": 1}, {"inner": 1}, {"inner": -2}, {"val_fraction": 1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(settings))}"):
        SplitConfig(manifest=Path("m"), out=Path("o"), **settings)  # type: ignore[arg-type]


def test_a_patch_of_no_patient_is_named(config: SplitConfig) -> None:
    frame = read_manifest(config.manifest)
    frame.loc[4, "patient_id"] = None
    write_manifest(frame, config.manifest)
    with pytest.raises(InputError, match=f"patch {frame['patch_id'][4]} has no patient_id"):
        split(config)


@pytest.mark.parametrize("quality", [None, 50])
def test_one_picture_under_two_patients_is_refused(config: SplitConfig, quality: int | None) -> None:
    images = config.manifest.parent / "images"
    source = Image.open(images / "0.png")
    if quality is None:
        source.save(images / "59.png")
    else:
        source.save(images / "59.jpg", quality=quality)
        (images / "59.jpg").rename(images / "59.png")
    frame = read_manifest(config.manifest)
    write_manifest(frame[frame["patch_id"].isin(["patch-0", "patch-59"]) | (frame.index > 10)], config.manifest)
    what = "holds the same pixels as" if quality is None else "is nearly the same picture as"
    with pytest.raises(InputError, match=rf"patch patch-\d+ of the patient s\d-p\d+ {what} patch-\d+ of the patient"):
        split(config)
    assert not config.out.exists()
    if quality is not None:
        split(replace(config, near_duplicates="allow"))
