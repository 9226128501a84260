"""The wheel holds everything that the checkout does."""

import os
import subprocess
import sys
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


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("mmlnb-*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(site)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "infer" in done.stdout
