"""What every test may use."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real slides and patches, which lies beside the project and is not part of it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real slides in {REAL_DATA}, which is absent")
    return REAL_DATA
