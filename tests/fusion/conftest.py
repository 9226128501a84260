"""A learnable data set of coloured patches, and a model trained on it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data.manifest import read_manifest, write_manifest
from fusion.block import FusionOutput
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.training import Training

COLOURS = {"UD": (120, 60, 150), "PD": (190, 120, 190), "D": (235, 190, 215)}
WORDS = {
    "UD": ["sheets of small round cells", "no fibrils between crowded nuclei"],
    "PD": ["fibrils with rosettes", "some fibrils between the nuclei"],
    "D": ["many large cells with ample cytoplasm", "large cells lie in a fibrillary matrix"],
}
PER_SPLIT = {"train": 12, "val": 4, "test": 4}


def write_dataset(folder: Path, *, seed: int = 0) -> tuple[Path, Path]:
    """Write patches, manifest and captions; a fifth of the captions failed or is empty."""
    random = np.random.default_rng(seed)
    rows, captions = [], []
    for split, count in PER_SPLIT.items():
        for label, colour in COLOURS.items():
            for number in range(count):
                name = f"{split}-{label}-{number}"
                noise = random.normal(0, 18, size=(56, 56, 3)) + random.normal(0, 6, size=3)
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                (folder / "patches").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / "patches" / f"{name}.png")
                rows.append(
                    {
                        "patch_id": name,
                        "image": f"patches/{name}.png",
                        "slide_id": None,
                        "patient_id": f"{split}-{label}",
                        "x": 0,
                        "y": 0,
                        "size_px": 56,
                        "mpp": 0.5,
                        "label": label,
                        "description": WORDS[label][0],
                        "findings": None,
                        "split": split,
                    }
                )
                failed = number % 5 == 4
                text = "" if failed else WORDS[label][number % 2]
                captions.append({"patch_id": name, "text": text, "error": "out of memory" if failed else None})
    write_manifest(pd.DataFrame(rows), folder / "patches.parquet")
    (folder / "captions").mkdir()
    half = len(captions) // 2
    for part, some in enumerate((captions[:half], captions[half:])):
        pd.DataFrame(some).to_parquet(folder / "captions" / f"part-{part}.parquet")
    return folder / "patches.parquet", folder / "captions"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifest and captions of the coloured patches."""
    return write_dataset(tmp_path_factory.mktemp("coloured"))


@pytest.fixture(scope="session")
def described(dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of the coloured patches with descriptions of several sentences."""
    manifest, _ = dataset
    frame = read_manifest(manifest)
    frame["image"] = [str((manifest.parent / image).resolve()) for image in frame["image"]]
    frame["description"] = [f"{text}. The stain is even. No pen is seen." for text in frame["description"]]
    path = tmp_path_factory.mktemp("described") / "patches.parquet"
    write_manifest(frame, path)
    return path


MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def make_config(dataset: tuple[Path, Path]) -> MakeConfig:
    """Small training configuration with a freeze and an unfreeze; any field can be overridden."""

    def make(out: Path, **overrides: object) -> TrainConfig:
        manifest, captions = dataset
        settings: dict[str, object] = {
            "manifest": manifest,
            "captions": captions,
            "out": out,
            "image_tower": "tiny-image",
            "text_tower": "tiny-text",
            "pretrained": False,
            "stages": (
                Stage(name="image", epochs=2, freeze=("text",), alpha_from=0.3),
                Stage(name="joint", epochs=4, alpha_from=0.3, alpha_to=1.0, alpha_step=0.35, alpha_every=1),
                Stage(name="fusion", epochs=2, freeze=("image", "text")),
            ),
            "batch_size": 12,
            "learning_rate": 2e-3,
            "device": "cpu",
            "workers": 1,
            "text_dropout": 0.1,
            "text_swap_across": 0.1,
            "gate_loss": 0.5,
            "augment": ("image",),
            "balance": "weighted",
        }
        return TrainConfig(**(settings | overrides))  # type: ignore[arg-type]

    return make


TrainCutOff = Callable[[TrainConfig, int], None]


@pytest.fixture
def train_cut_off(monkeypatch: pytest.MonkeyPatch) -> TrainCutOff:
    """Train, and be cut off in the epoch after so many whole ones, each of which left a checkpoint."""
    import fusion.fit as module
    from fusion.train import train

    def cut_off_after(config: TrainConfig, epochs: int) -> None:
        calls: list[object] = []

        def validate(run: Training) -> FusionOutput:
            calls.append(run)
            if len(calls) > epochs:
                raise KeyboardInterrupt
            return real(run)

        real = module.validate
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, "validate", validate)
            train(replace(config, checkpoint_seconds=0.0))
        assert len(pd.read_csv(config.out / "history.csv")) == epochs

    return cut_off_after


@pytest.fixture(scope="session")
def trained(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the coloured patches."""
    from fusion.train import train

    return train(make_config(tmp_path_factory.mktemp("trained") / "run"))
