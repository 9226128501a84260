"""What every test may use."""

import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the start method that Windows and macOS have, to run the suite under it elsewhere."""
    parser.addoption("--start-method", choices=multiprocessing.get_all_start_methods())


def pytest_configure(config: pytest.Config) -> None:
    """Set the start method, here and in every Python that a test starts."""
    method = config.getoption("--start-method")
    if method is not None:
        multiprocessing.set_start_method(method)
        folder = Path(tempfile.mkdtemp(prefix="start-method-"))
        text = f"import multiprocessing\nmultiprocessing.set_start_method({method!r})\n"
        (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real slides and patches, which lies beside the project and is not part of it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"needs the real slides in {REAL_DATA}, which is absent")
    return REAL_DATA
