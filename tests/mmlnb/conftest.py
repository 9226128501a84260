"""The demo path at reduced size, run once as a user would, in a fresh folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REDUCED = {
    "patients": "9",
    "patches-per-patient": "4",
    "slides": "3",
    "slide-px": "1536",
    "finetune-epochs": "6",
    "train-epochs": "[1,1,1]",
}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished reduced demo."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "mmlnb", "demo", "run"]
    command += [part for name, value in REDUCED.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "run"
