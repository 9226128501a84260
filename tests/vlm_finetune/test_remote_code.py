"""Code in a model's folder runs only where the model was named, and pickles never."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from data.errors import InputError
from vlm_finetune.captioner import Captioner
from vlm_finetune.model import find_model, load_base, load_processor


class Evil:
    """Makes the folder `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model_with_code(micro_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The micro model as one of a kind of its own, whose code leaves a mark."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "model"
    shutil.copytree(micro_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForImageTextToText": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "own.py").write_text(code)
    return folder


def test_code_of_a_model_does_not_run_unless_the_model_is_named(model_with_code: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--trust_remote_code \[NAME\]"):
        load_base(model_with_code, dtype=torch.float32)
    with pytest.raises(InputError, match="model"):
        Captioner(model=str(model_with_code), device="cpu")
    with suppress(InputError):
        load_processor(model_with_code, image_px=56)
    assert not (tmp_path / "ran").exists()
    # The code defines no model, so that loading it fails, but not before it has run.
    with suppress(Exception):
        load_base(model_with_code, dtype=torch.float32, remote_code=True)
    assert (tmp_path / "ran").exists()


def test_a_model_whose_weights_are_a_pickle_is_refused_by_name_and_not_read(micro_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(micro_model, folder)
    torch.save({"weight": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    # Beside safetensors it is left alone.
    load_base(find_model(str(folder)), dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model\.bin: a PyTorch pickle.*`mmlnb prefetch .*model`"):
        find_model(str(folder))
    with pytest.raises(InputError):
        load_base(folder, dtype=torch.float32)
    assert not (tmp_path / "ran").exists()
