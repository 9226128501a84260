"""A Qwen2.5-VL small enough for a test, and a manifest with real image files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from data.manifest import COLUMNS, write_manifest
from vlm_finetune.tiny.architecture import Size, build_model, build_processor

MICRO = Size(
    image_px=56,
    vision_width=32,
    vision_depth=2,
    vision_heads=2,
    text_width=48,
    text_depth=2,
    text_heads=2,
    text_inner=64,
    vocabulary=420,
)
DESCRIPTIONS = (
    "High cellularity with no neuropil and a high MKI.",
    "Abundant neuropil, low cellularity; no necrosis.",
    "We see Homer Wright rosettes with scant neuropil and haemorrhage.",
)


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of an untrained micro model, loaded through the same classes as any other."""
    folder = tmp_path_factory.mktemp("micro")
    processor = build_processor([*DESCRIPTIONS, "Describe what is seen microscopically."] * 4, MICRO)
    model = build_model(processor, MICRO, seed=0)
    # As initialised it would repeat its last token for ever; with larger weights each patch gets a text of its own.
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1 if "embed_tokens" in name else 0.25)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def noise() -> Callable[[int], list[np.ndarray]]:
    """Patches of noise, each unlike the others."""

    def draw(count: int) -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        return [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(count)]

    return draw


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve patches of six patients, four of them for training, one for validation, one for testing."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        patient = index // 2
        name = f"images/{index}.png"
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
        row = dict.fromkeys(COLUMNS) | {
            "patch_id": f"p{index}",
            "image": name,
            "patient_id": f"patient-{patient}",
            "size_px": 64,
            "mpp": 0.5,
            "label": "UD",
            "description": DESCRIPTIONS[index % 3],
            "split": "train" if patient < 4 else "val" if patient == 4 else "test",
        }
        rows.append(row)
    write_manifest(pd.DataFrame(rows), tmp_path / "patches.parquet")
    return tmp_path / "patches.parquet"


@pytest.fixture
def edit_manifest(manifest: Path) -> Callable[..., Path]:
    """Set columns of one row of the manifest: `edit_manifest("p0", description="")`."""

    def edit(patch_id: str, **values: object) -> Path:
        from data.manifest import read_manifest

        frame = read_manifest(manifest)
        for column, value in values.items():
            frame.loc[frame["patch_id"] == patch_id, column] = value
        write_manifest(frame, manifest)
        return manifest

    return edit
