"""Patches inside slides are described as the same pixels in files are, with nothing cut out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from data.captions import read_captions
from data.errors import InputError
from data.manifest import COLUMNS, write_manifest
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig
from vlm_finetune.patch_source import own_rows
from vlm_finetune.unseen import Place, Row

SIDE = 64
PLACES = [(x, y) for y in range(0, 256, SIDE) for x in range(0, 512, SIDE)]


def manifest_of(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(pd.DataFrame([dict.fromkeys(COLUMNS) | row for row in rows]), path)
    return path


@pytest.fixture
def inside(micro_model: str, tmp_path: Path) -> CaptionConfig:
    """Two slides of noise, and a manifest of all their squares."""
    (tmp_path / "slides").mkdir()
    for name, seed in (("a.tiff", 1), ("b.tiff", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (256, 512, 3), dtype=np.uint8)
        tifffile.imwrite(
            tmp_path / "slides" / name,
            pixels,
            tile=(128, 128),
            photometric="rgb",
            resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
    rows: list[dict[str, object]] = [
        {"patch_id": f"{name}:{x}:{y}", "slide_id": name, "x": x, "y": y, "size_px": SIDE, "mpp": 0.5}
        for name in ("a.tiff", "b.tiff")
        for x, y in PLACES
    ]
    return CaptionConfig(
        manifest=manifest_of(tmp_path / "tiles.parquet", rows),
        slides=tmp_path / "slides",
        out=tmp_path / "captions",
        model=micro_model,
        image_px=56,
        batch_size=8,
        rows_per_part=16,
        max_new_tokens=6,
        device="cpu",
    )


def test_a_patch_in_a_slide_is_described_as_the_same_pixels_in_a_file(inside: CaptionConfig, tmp_path: Path) -> None:
    found = read_captions(caption(inside)).set_index("patch_id").sort_index()
    assert inside.slides is not None
    rows: list[dict[str, object]] = []
    for name in ("a.tiff", "b.tiff"):
        pixels = tifffile.imread(inside.slides / name)
        for x, y in PLACES:
            file = tmp_path / "cut" / f"{name}-{x}-{y}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels[y : y + SIDE, x : x + SIDE]).save(file)
            rows.append({"patch_id": f"{name}:{x}:{y}", "image": file.name})
    cut = replace(
        inside, manifest=manifest_of(tmp_path / "cut" / "patches.parquet", rows), slides=None, out=tmp_path / "of-files"
    )
    expected = read_captions(caption(cut)).set_index("patch_id").sort_index()
    assert len(found) == 2 * len(PLACES)
    assert found[["text", "key"]].equals(expected[["text", "key"]])


def test_a_run_with_a_part_missing_is_completed(inside: CaptionConfig) -> None:
    out = caption(inside)
    whole = read_captions(out).set_index("patch_id").sort_index()
    (out / "part-0-1.parquet").unlink()
    caption(inside)
    assert read_captions(out).set_index("patch_id").sort_index()["text"].equals(whole["text"])


def test_a_slide_that_is_gone_costs_its_own_patches(inside: CaptionConfig) -> None:
    assert inside.slides is not None
    (inside.slides / "a.tiff").unlink()
    found = read_captions(caption(inside)).set_index("patch_id")
    gone = found.index.str.startswith("a.tiff")
    assert gone.sum() == len(PLACES)
    assert found.loc[gone, "error"].str.contains("a.tiff").all()
    assert found.loc[~gone, "text"].notna().all()


def test_two_rows_at_one_place_both_get_their_text(inside: CaptionConfig, tmp_path: Path) -> None:
    place = {"slide_id": "a.tiff", "x": 64, "y": 64, "size_px": SIDE, "mpp": 0.5}
    twice = manifest_of(tmp_path / "twice.parquet", [{"patch_id": name} | place for name in ("one", "two")])
    found = read_captions(caption(replace(inside, manifest=twice))).set_index("patch_id")
    assert sorted(found.index) == ["one", "two"]
    assert found.loc["one", "text"] == found.loc["two", "text"]


def test_a_row_that_lies_nowhere_is_named(inside: CaptionConfig, tmp_path: Path) -> None:
    nowhere = manifest_of(tmp_path / "nowhere.parquet", [{"patch_id": "p0", "slide_id": "a.tiff"}])
    with pytest.raises(InputError, match=r"p0 has neither an image nor slide_id"):
        caption(replace(inside, manifest=nowhere))


def test_processes_share_neighbours_and_leave_none_out() -> None:
    files = [Row(f"f{number}", f"{number}.png", None) for number in range(5)]
    places = [Row(f"s{number}", None, None, Place("a", number, 0, 64, 0.5)) for number in range(200)]
    shares = [own_rows([*files, *places], process, 3) for process in range(3)]
    assert sorted(row.patch_id for share in shares for row in share) == sorted(
        row.patch_id for row in [*files, *places]
    )
    inside = [row.place.x for row in shares[1] if row.place is not None]
    assert inside == list(range(64, 128))
