"""A manifest is refused where one picture, or one site, is on both sides of its split; a clean one passes silently."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from patch_sources import Patch
from PIL import Image

from data.check_duplicates import check_duplicates
from data.config import PrepareConfig
from data.errors import InputError
from data.manifest import HASHES, LATER_COLUMNS, read_manifest, write_manifest
from data.patch_hashes import with_hashes
from data.perceptual_hash import perceptual_hash
from data.prepare import prepare

SITES = ("north", "south", "east", "west")


@pytest.fixture
def patches(tmp_path: Path) -> list[Patch]:
    """Twelve patients of four sites with two patches each, coarse enough to be told from one another by their looks."""
    random = np.random.default_rng(0)
    found = []
    (tmp_path / "images").mkdir()
    for number in range(24):
        patient = number // 2
        name = f"images/{SITES[patient % 4]}-p{patient}_{number}.png"
        coarse = random.integers(60, 220, (14, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((112, 112), Image.Resampling.BICUBIC).save(tmp_path / name)
        label = ("UD", "PD", "D")[patient // 4]
        found.append(Patch(name, f"{SITES[patient % 4]}-p{patient}", label, f"Scant neuropil, number {number}."))
    return found


def write(folder: Path, patches: list[Patch], **columns: list[str]) -> Path:
    rows = [{k: v for k, v in vars(patch).items() if k != "findings"} for patch in patches]
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "patches.csv", index=False)
    return folder / "patches.csv"


def run(folder: Path, patches: list[Patch], *, columns: dict[str, list[str]] | None = None, **settings: object) -> Path:
    source = write(folder, patches, **(columns or {}))
    return prepare(PrepareConfig(source=source, out=folder / "m.parquet", **settings))  # type: ignore[arg-type]


def recompress(folder: Path, source: str, target: str, *, quality: int = 40) -> str:
    """Save the image `source` as a JPEG that looks the same, as `target`."""
    Image.open(folder / source).save(folder / target, "JPEG", quality=quality)
    return target


SPLITS = ["train"] * 16 + ["val"] * 4 + ["test"] * 4


def test_a_clean_set_passes_silently(
    tmp_path: Path,
    patches: list[Patch],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = read_manifest(run(tmp_path, patches, columns={"split": SPLITS}))
    assert frame[list(HASHES)].notna().all(axis=None)
    assert "leakage" not in capsys.readouterr().out
    assert not caplog.records


def test_a_recompressed_patch_in_another_split_is_named_and_may_be_allowed(
    tmp_path: Path, patches: list[Patch], caplog: pytest.LogCaptureFixture
) -> None:
    copy = recompress(tmp_path, patches[3].file_name, "images/copy.jpg")
    patches[22] = replace(patches[22], file_name=copy)
    with pytest.raises(
        InputError,
        match=r"patches\.csv: patch images/copy\.jpg of the split test is nearly the same picture as "
        r"images/south-p1_3\.png of the split train, \d+ of 256 bits apart; .*--near_duplicates allow",
    ):
        run(tmp_path, patches, columns={"split": SPLITS})
    assert not (tmp_path / "m.parquet").exists()
    with caplog.at_level(logging.WARNING):
        run(tmp_path, patches, columns={"split": SPLITS}, near_duplicates="allow")
    assert "accepted by --near_duplicates allow" in caplog.text


def test_a_recompressed_patch_of_another_patient_in_the_same_split_is_only_reported(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    patches[4] = replace(patches[4], file_name=recompress(tmp_path, patches[0].file_name, "images/copy.jpg"))
    run(tmp_path, patches, columns={"split": SPLITS})
    assert "1 pairs of patches of different patients are nearly the same picture" in capsys.readouterr().out


def test_without_patients_pictures_that_look_the_same_stay_together(tmp_path: Path, patches: list[Patch]) -> None:
    for number in range(1, 24, 2):
        copy = recompress(tmp_path, patches[number - 1].file_name, f"images/{number}.jpg")
        patches[number] = replace(patches[number], file_name=copy)
    source = write(tmp_path, patches)
    pd.read_csv(source).drop(columns="patient_id").to_csv(source, index=False)
    frame = read_manifest(prepare(PrepareConfig(source=source, out=tmp_path / "m.parquet", no_patients=True)))
    assert frame["patient_id"].nunique() == 12
    assert list(frame["patient_id"][::2]) == list(frame["patient_id"][1::2])


def test_the_same_pixels_are_refused_even_where_nearly_the_same_is_allowed(
    tmp_path: Path, patches: list[Patch]
) -> None:
    frame = read_manifest(run(tmp_path, patches, columns={"split": SPLITS}))
    frame.loc[23, "pixel_hash"] = frame.loc[0, "pixel_hash"]
    with pytest.raises(InputError, match=r"west-p11_23\.png of the split test holds the same pixels as .*p0_0\.png"):
        check_duplicates(frame, side="split", source=tmp_path, near="allow")
    check_duplicates(frame.assign(split="train"), side="split", source=tmp_path)


def test_images_too_smooth_to_compare_are_counted(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, level in ((2, 240), (9, 241)):
        Image.new("RGB", (112, 112), (level,) * 3).save(tmp_path / patches[number].file_name)
    run(tmp_path, patches)
    assert "2 of 24 images are too smooth to find nearly equal ones" in capsys.readouterr().out


def test_a_manifest_from_before_there_were_sites_and_hashes_is_read_and_brought_up_to_date(
    tmp_path: Path, patches: list[Patch]
) -> None:
    manifest = run(tmp_path, patches)
    whole = read_manifest(manifest)
    pq.write_table(pq.read_table(manifest).drop_columns(list(LATER_COLUMNS)), manifest)
    old = read_manifest(manifest)
    assert list(old.columns) == list(whole.columns) and old[list(LATER_COLUMNS)].isna().all(axis=None)
    pd.testing.assert_frame_equal(with_hashes(old, manifest), whole)
    run(tmp_path, patches)
    pd.testing.assert_frame_equal(read_manifest(manifest), whole)


def test_an_image_that_cannot_be_read_is_left_without_a_hash(tmp_path: Path, patches: list[Patch]) -> None:
    manifest = run(tmp_path, patches)
    write_manifest(read_manifest(manifest).drop(columns=list(LATER_COLUMNS)), manifest)
    (tmp_path / patches[5].file_name).unlink()
    hashed = with_hashes(read_manifest(manifest), manifest)
    assert list(hashed.index[hashed["pixel_hash"].isna()]) == [5]


def test_whole_sites_are_held_out_on_request(tmp_path: Path, patches: list[Patch]) -> None:
    manifest = run(tmp_path, patches, by="site", site_pattern="^([a-z]+)-")
    frame = read_manifest(manifest)
    assert set(frame["site"]) == set(SITES)
    assert (frame.groupby("site")["split"].nunique() == 1).all()
    assert set(frame["split"]) == {"train", "val", "test"}
    before = manifest.read_bytes()
    run(tmp_path, patches, by="site", site_pattern="^([a-z]+)-")
    assert manifest.read_bytes() == before


def test_a_given_split_that_tears_a_site_apart_is_refused_where_sites_are_asked_for(
    tmp_path: Path, patches: list[Patch]
) -> None:
    columns = {"split": SPLITS, "site": [patch.patient_id.partition("-")[0] for patch in patches]}
    run(tmp_path, patches, columns=columns)
    (tmp_path / "m.parquet").unlink()
    with pytest.raises(InputError, match=r"site east is in the splits .*; put every site in one split only"):
        run(tmp_path, patches, columns=columns, by="site")


@pytest.mark.parametrize(
    ("settings", "sites", "message"),
    [
        ({"by": "site"}, None, "patient north-p0 has no site; fill in the column site, or .*--site-pattern"),
        ({"by": "site"}, ["a", "b"] * 12, "patient east-p10 is at the sites a and b; give every patient one site"),
        ({"by": "site"}, ["a"] * 12 + ["b"] * 12, "2 sites cannot fill train, val and test"),
        ({"site_pattern": "^([a-z]+)-"}, ["a"] * 24, "by a column site and by --site-pattern"),
        ({"site_pattern": "(north)"}, None, r"finds no site in east-p10 \(and 8 more patients\)"),
        ({"site_pattern": "("}, None, "--site-pattern .*not a regular expression"),
        ({"site_pattern": "north"}, None, "put the site in parentheses"),
    ],
)
def test_sites_that_cannot_be_used_are_refused(
    tmp_path: Path, patches: list[Patch], settings: dict[str, object], sites: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path, patches, columns=None if sites is None else {"site": sites}, **settings)


def test_sites_of_one_class_are_counted(
    tmp_path: Path, patches: list[Patch], capsys: pytest.CaptureFixture[str]
) -> None:
    sites = [
        f"site {patch.label}" if patch.label != "D" else f"site {number % 4 // 2}"
        for number, patch in enumerate(patches)
    ]
    patches[-1] = replace(patches[-1], label="PD")
    run(tmp_path, patches, columns={"site": sites})
    out = capsys.readouterr().out
    assert "leakage: 3 of 4 sites have patients of one class only (site 0: D, 2 patients; site PD: PD, 4" in out


def test_the_perceptual_hash_of_the_manifest_is_that_of_the_image(tmp_path: Path, patches: list[Patch]) -> None:
    frame = read_manifest(run(tmp_path, patches))
    pixels = np.asarray(Image.open(tmp_path / patches[7].file_name))
    assert frame.loc[7, "perceptual_hash"] == perceptual_hash(pixels)
