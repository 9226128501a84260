"""The wheel holds everything that the checkout does, and calls a slide as soon as it is installed."""

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECK = """
import sys
from pathlib import Path
import mmlnb
from mmlnb.cli import main
from data.command import make_config
from data.config import PrepareConfig
from data.taxonomy import load_taxonomy
from fusion.config import TrainConfig
from vlm_finetune.config import CaptionConfig, FinetuneConfig
from vlm_finetune.model import find_model
assert Path(mmlnb.__file__).is_relative_to(sys.argv[1]), mmlnb.__file__
assert main(['--help']) == 0
assert load_taxonomy('neuroblastic-tumours').class_names[-1] == 'GN'
for name, config in (('finetune', FinetuneConfig), ('caption', CaptionConfig), ('train', TrainConfig)):
    make_config(config, name=name, config='paper', manifest='m', out='o')
make_config(PrepareConfig, name='prepare', config='paper', source='s', out='o')
assert find_model('tiny').is_relative_to(sys.argv[1])
"""
PIPELINE = """
import sys
from mmlnb import Pipeline
result = Pipeline.from_pretrained()(sys.argv[1])
print(result.subtype, result.captioned, result.notice)
"""
NOTICE = "The models were trained on synthetic tissue only."


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel; what it depends on is borrowed from this one, nothing else is."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("mmlnb-*.whl")
    python = folder / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A checkout that is installed to be edited is on the path by a file of its own, which is not followed from here.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python as somebody who has just installed it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(clean: Path, tmp_path: Path) -> None:
    done = run(clean, "-c", CHECK, str(clean.parents[1]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "infer" in done.stdout


@pytest.mark.slow
def test_after_installing_a_real_slide_is_called_with_no_other_step(
    clean: Path, real_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "slides").mkdir()
    slide = shutil.copy(real_data / "slides" / "CMU-1-Small-Region.svs", tmp_path / "slides")
    done = subprocess.run(
        [str(clean.parent / "mmlnb"), "infer", "slides", "out"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "slides.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["captioned"], row["notice"]) == ("ok", row["patches"], NOTICE)
    assert NOTICE in (tmp_path / "out" / "index.html").read_text()
    from_python = run(clean, "-c", PIPELINE, str(slide), cwd=tmp_path)
    assert from_python.stdout.split(maxsplit=2) == [row["subtype"], row["captioned"], NOTICE + "\n"], from_python.stderr
