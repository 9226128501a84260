"""The stain reference may be neither a slide that is called nor a patch that was tested."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.errors import InputError
from data.manifest import COLUMNS, write_manifest
from mmlnb.stain_reference import check_stain_reference, write_held_out


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Six patches in a folder with their manifest; the last three are held out."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(6):
        coarse = Image.fromarray(random.integers(40, 220, (14, 14, 3), dtype=np.uint8))
        coarse.resize((112, 112), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
        split = "train" if number < 3 else "test"
        rows.append(dict.fromkeys(COLUMNS) | {"patch_id": str(number), "image": f"{number}.png", "split": split})
    write_manifest(pd.DataFrame(rows), tmp_path / "patches.parquet")
    return tmp_path


@pytest.fixture
def held_out(patches: Path) -> Path:
    path = patches / "bundle" / "held_out.parquet"
    write_held_out(path, patches / "patches.parquet", split="test")
    return path


def test_a_training_patch_passes_silently(patches: Path, held_out: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        check_stain_reference(patches / f"{number}.png", slides=[patches / "5.png"], held_out=held_out)
    assert not caplog.records


@pytest.mark.parametrize(("quality", "said"), [(None, "is a patch that"), (50, "is nearly a patch that")])
def test_a_patch_that_was_tested_is_refused(patches: Path, held_out: Path, quality: int | None, said: str) -> None:
    reference = shutil.copy(patches / "4.png", patches / "reference.png")
    if quality is not None:
        Image.open(reference).save(patches / "reference.jpg", quality=quality)
        reference = patches / "reference.jpg"
    with pytest.raises(InputError, match=rf"--stain-reference .*{said} the bundle's figures were measured on; give an"):
        check_stain_reference(reference, slides=[], held_out=held_out)


def test_one_of_the_slides_to_be_called_is_refused_under_any_name(patches: Path, held_out: Path) -> None:
    shutil.copy(patches / "1.png", patches / "renamed.png")
    with pytest.raises(
        InputError, match=r"is .*1\.png, one of the slides to be called; give an H&E patch of a training"
    ):
        check_stain_reference(patches / "renamed.png", slides=[patches / "0.png", patches / "1.png"], held_out=held_out)


def test_a_bundle_that_does_not_say_what_was_tested_is_warned_of(
    patches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_stain_reference(patches / "4.png", slides=[], held_out=patches / "held_out.parquet")
    assert "held_out.parquet: is missing from the bundle" in caplog.text


def test_what_is_written_holds_hashes_alone(held_out: Path) -> None:
    frame = pd.read_parquet(held_out)
    assert list(frame) == ["pixel_hash", "perceptual_hash"] and len(frame) == 3
