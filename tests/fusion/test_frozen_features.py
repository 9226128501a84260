"""What is frozen is encoded once: read again where nothing changed, and never where something did."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fusion.frozen as frozen
from data.manifest import read_manifest, write_manifest
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.feature_store import FeatureStore
from fusion.train import train

MakeConfig = Callable[..., TrainConfig]
FROZEN = (Stage(name="fusion", epochs=1, freeze=("image", "text")),)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been encoded since the test began, in order."""
    calls: list[str] = []
    for name in ("encode_images", "encode_texts"):
        real = getattr(frozen, name)

        def watched(*arguments: object, name: str = name, real: Callable = real, **keywords: object) -> torch.Tensor:
            calls.append(name.removeprefix("encode_"))
            return real(*arguments, **keywords)

        monkeypatch.setattr(frozen, name, watched)
    return calls


def weights(run: Path) -> bytes:
    return (run / "model" / "fusion.safetensors").read_bytes()


def test_a_repeated_run_reads_the_features_of_a_shared_folder(
    make_config: MakeConfig, tmp_path: Path, encoded: list[str]
) -> None:
    first = train(make_config(tmp_path / "a", stages=FROZEN, features=tmp_path / "features"))
    assert encoded == ["images", "texts"]
    second = train(make_config(tmp_path / "b", stages=FROZEN, features=tmp_path / "features"))
    assert encoded == ["images", "texts"]
    alone = train(make_config(tmp_path / "c", stages=FROZEN))
    assert weights(first) == weights(second) == weights(alone)


def test_a_tower_that_stays_frozen_is_encoded_in_the_first_stage_alone(
    make_config: MakeConfig, tmp_path: Path, encoded: list[str]
) -> None:
    stages = (Stage(name="image", epochs=1, freeze=("text",)), *FROZEN)
    out = train(make_config(tmp_path / "run", stages=stages))
    assert encoded == ["texts", "images"]
    assert not (out / "state").exists()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"seed": 1}, ["images", "texts"]),
        ({"precision": "bf16"}, ["images", "texts"]),
        ({"text_source": "description", "captions": None}, ["texts"]),
        ({"image_memory_gb": 0.0, "dropout": 0.1}, []),
    ],
    ids=["other weights", "other arithmetic", "other text", "nothing that matters"],
)
def test_only_what_changed_is_encoded_again(
    change: dict[str, object], again: list[str], make_config: MakeConfig, tmp_path: Path, encoded: list[str]
) -> None:
    # The tokenizer is trained on the text, and the text tower is as large as its vocabulary.
    train(make_config(tmp_path / "a", stages=FROZEN, features=tmp_path / "features"))
    encoded.clear()
    train(make_config(tmp_path / "b", stages=FROZEN, features=tmp_path / "features", **change))
    assert encoded == again


def test_a_patch_that_was_painted_over_is_encoded_again(
    make_config: MakeConfig, tmp_path: Path, encoded: list[str]
) -> None:
    config = make_config(tmp_path / "a", stages=FROZEN, features=tmp_path / "features")
    frame = read_manifest(config.manifest)
    frame["image"] = [str((config.manifest.parent / image).resolve()) for image in frame["image"]]
    Image.open(frame.at[0, "image"]).save(tmp_path / "patch.png")
    frame.at[0, "image"] = str(tmp_path / "patch.png")
    write_manifest(frame, tmp_path / "patches.parquet")
    config = replace(config, manifest=tmp_path / "patches.parquet")
    train(config)
    Image.new("RGB", (56, 56), "green").save(tmp_path / "patch.png")
    encoded.clear()
    train(replace(config, out=tmp_path / "b"))
    assert encoded == ["images"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_damaged_features_are_encoded_again_with_one_line_each(
    damage: Callable[[Path], object],
    make_config: MakeConfig,
    tmp_path: Path,
    encoded: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = train(make_config(tmp_path / "a", stages=FROZEN, features=tmp_path / "features"))
    arrays = sorted((tmp_path / "features").glob("*.npy"))
    assert len(arrays) == 2
    for path in arrays:
        damage(path)
    encoded.clear()
    with caplog.at_level(logging.WARNING, logger="fusion.feature_store"):
        second = train(make_config(tmp_path / "b", stages=FROZEN, features=tmp_path / "features"))
    assert encoded == ["images", "texts"] and weights(first) == weights(second)
    lines = [record.getMessage() for record in caplog.records if record.name == "fusion.feature_store"]
    assert sorted(line.partition(":")[0] for line in lines) == [str(path) for path in arrays]
    assert all("encoded again" in line and "\n" not in line for line in lines)


def test_features_are_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    store.save("key", features)
    held = store.load("key")
    assert isinstance(held, np.memmap) and (held == features).all()
    held[0] = -1
    again = store.load("key")
    assert again is not None and (again == features).all() and store.load("other") is None


def test_features_without_their_seal_do_not_count(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.save("key", np.ones((2, 2), dtype=np.float32))
    (tmp_path / "key.json").unlink()
    assert store.load("key") is None
