"""Pickles become safetensors without running, or are refused by name."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mmlnb
from data.errors import InputError
from fusion.run_folder import STATE, load_progress
from fusion.towers import check_tower, find_tower, load_image_tower
from mmlnb.safe_weights import write_safetensors


class Evil:
    """Makes the folder `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


CONFIGS = {
    "timm": ("config.json", {"architecture": "resnet10t"}, "pytorch_model.bin"),
    "open_clip": ("open_clip_config.json", {"model_cfg": {}}, "open_clip_pytorch_model.bin"),
    "transformers": ("config.json", {"model_type": "bert"}, "pytorch_model.bin"),
}


@pytest.mark.parametrize("loader", CONFIGS)
def test_a_tower_whose_weights_are_a_pickle_is_refused_by_name_and_not_read(loader: str, tmp_path: Path) -> None:
    config, content, weights = CONFIGS[loader]
    folder = tmp_path / "tower"
    folder.mkdir()
    (folder / config).write_text(json.dumps(content))
    torch.save({"weight": Evil(tmp_path / "ran")}, folder / weights)
    for name in (str(folder), f"hf:{folder}") if loader == "transformers" else (str(folder),):
        record = find_tower(name, modality="image")
        for load in (check_tower, load_image_tower):
            with pytest.raises(InputError, match=rf"{weights}: a PyTorch pickle.*`mmlnb prefetch "):
                load(record)  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"{weights}: not read"):
        write_safetensors(folder)
    assert not (tmp_path / "ran").exists()
    assert not list(folder.glob("*.safetensors"))


def test_prefetch_writes_the_tensors_of_a_folder_as_safetensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    shards = {"one": {"a": shared, "b": shared.T}, "two": {"c": torch.ones(2, dtype=torch.bfloat16)}}
    names = {name: f"pytorch_model-0000{n}-of-00002.bin" for n, name in enumerate(shards, 1)}
    for name, state in shards.items():
        torch.save(state, tmp_path / names[name])
    index = {"metadata": {}, "weight_map": {"a": names["one"], "b": names["one"], "c": names["two"]}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    mmlnb.prefetch(str(tmp_path))
    read = load_file(tmp_path / "model-00001-of-00002.safetensors")
    assert torch.equal(read["a"], shared) and torch.equal(read["b"], shared.T)
    assert load_file(tmp_path / "model-00002-of-00002.safetensors")["c"].dtype == torch.bfloat16
    written = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(written["weight_map"].values()) == {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    assert "model-00001-of-00002.safetensors" in capsys.readouterr().out
    assert write_safetensors(tmp_path) == []


def test_the_state_of_a_training_is_read_as_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()
    torch.save({"key": "1", "model": Evil(tmp_path / "ran")}, tmp_path / STATE / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt: cannot be read"):
        load_progress(tmp_path, key="1")
    assert not (tmp_path / "ran").exists()
