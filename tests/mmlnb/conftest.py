"""The demo path at reduced size, run once as a user would, in a fresh folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cut_slide import cut_two_slides

import mmlnb


@pytest.fixture(scope="session")
def reduced_demo() -> dict[str, Any]:
    """Settings of a demo that takes well under a minute."""
    return {
        "patients": 9,
        "patches_per_patient": 4,
        "slides": 3,
        "slide_px": 1536,
        "finetune_epochs": 6.0,
        "train_epochs": [1, 1, 1],
    }


@pytest.fixture(scope="session")
def demo_run(reduced_demo: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished reduced demo."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "mmlnb", "demo", "run"]
    command += [part for name, value in reduced_demo.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "run"


@pytest.fixture
def run(demo_run: Path) -> Callable[..., int]:
    """`mmlnb.infer` with the demo's bundle and, unless said otherwise, without captions."""

    def infer(slides: Path, out: Path, **settings: Any) -> int:
        status = mmlnb.infer(slides, out, **{"bundle": demo_run / "bundle", "caption": "none", **settings})
        assert isinstance(status, int)
        return status

    return infer


@pytest.fixture
def two_slides(real_data: Path, tmp_path: Path) -> Path:
    """Folder with the small slides a.tiff and b.tiff."""
    return cut_two_slides(real_data, tmp_path / "slides")
