"""Every registered encoder loads through the code that loads the real one, and sees what it was trained on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_encoders import TEXTS, TIMM, published, put_in_cache, small

from data.errors import InputError
from fusion.images import frame_patch
from fusion.record import Modality, TowerRecord
from fusion.resolution import warn_of_resolution
from fusion.towers import TOWERS, check_tower, find_tower, load_image_tower, load_text_tower, rebuild_tower, save_tower
from fusion.train import train

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

IMAGES: dict[str, tuple[int, int, int, Any]] = {
    "vgg16": (512, 224, 224, IMAGENET),
    "quiltnet-b-32": (512, 224, 224, OPENAI),
    "quiltnet-b-16": (512, 224, 224, OPENAI),
    "quiltnet-b-16-pmb": (512, 224, 224, OPENAI),
    "biomedclip": (512, 224, 224, OPENAI),
    "plip": (512, 224, 224, OPENAI),
    "keep": (768, 224, 224, IMAGENET),
    "conch": (512, 448, 448, OPENAI),
    "musk": (1024, 384, 384, HALF),
    "uni": (1024, 224, 224, IMAGENET),
    "uni2-h": (1536, 224, 224, IMAGENET),
    "virchow2": (2560, 224, 224, IMAGENET),
    "h-optimus-0": (1536, 224, 224, OPTIMUS),
    "h-optimus-1": (1536, 224, 224, OPTIMUS),
    "prov-gigapath": (1536, 256, 224, IMAGENET),
    "phikon-v2": (1024, 224, 224, IMAGENET),
    "hibou-l": (1024, 224, 224, HIBOU),
    "midnight": (1536, 224, 224, HALF),
    "midnight-mean": (3072, 224, 224, HALF),
}
"""Dimension, side before the crop, side after it, mean and standard deviation."""

TEXT_LENGTHS = {
    "bert-base-uncased": (768, 128),
    "quiltnet-b-32": (512, 77),
    "quiltnet-b-16": (512, 77),
    "quiltnet-b-16-pmb": (512, 256),
    "biomedclip": (512, 256),
    "plip": (512, 77),
    "keep": (768, 256),
    "conch": (512, 128),
    "musk": (1024, 100),
}

LOADABLE = [record for record in TOWERS if record.has_weights and record.loader != "package"]
SMALL = [record for record in LOADABLE if record.name != "vgg16"]
PUBLISHED = [
    record for record in SMALL if record.modality == "image" and record.loader != "open_clip" and not record.remote_code
]
"""Those of which the published size can be built without memory for its weights."""


def ids(record: TowerRecord) -> str:
    return f"{record.name}-{record.modality}"


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def normalised(patch: np.ndarray, name: str) -> torch.Tensor:
    """The patch as Pillow and arithmetic on the published numbers bring it to the tower."""
    _, resize, size, (mean, std) = IMAGES[name]
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[
        str(find_tower(name, modality="image").interpolation)
    ]
    edge = (resize - size) // 2
    pixels = np.asarray(Image.fromarray(patch).resize((resize, resize), resample))[
        edge : edge + size, edge : edge + size
    ]
    return torch.tensor((pixels / 255 - np.array(mean)) / np.array(std), dtype=torch.float32).permute(2, 0, 1)[None]


def pooled(record: TowerRecord, model: Any, normal: torch.Tensor) -> torch.Tensor:
    """Features by the rule that the encoder's authors give."""
    if record.name == "keep":
        return model.visual_head(model.visual(normal).mean(dim=(2, 3)))
    if record.name == "plip":
        return model.visual_projection(model.vision_model(pixel_values=normal).pooler_output)
    if record.loader == "open_clip":
        return model(normal)
    if record.loader == "timm":
        tokens = model.forward_features(normal)
        first = 5
    else:
        tokens = model(pixel_values=normal).last_hidden_state
        first = 1
    if record.name in ("virchow2", "midnight-mean"):
        return torch.cat([tokens[:, 0], tokens[:, first:].mean(dim=1)], dim=1)
    return tokens[:, 0]


def test_every_encoder_that_people_name_is_there_with_its_published_numbers() -> None:
    for name, (dim, resize, size, (mean, std)) in IMAGES.items():
        record = find_tower(name, modality="image")
        assert (record.dim, record.resize, record.image_size) == (dim, resize, size), name
        assert (record.mean, record.std) == (mean, std), name
    for name, lengths in TEXT_LENGTHS.items():
        record = find_tower(name, modality="text")
        assert (record.dim, record.text_length) == lengths, name
    gated = {record.name for record in TOWERS if record.gated}
    assert gated == {"conch", "musk", "uni", "uni2-h", "virchow2", *TIMM, "hibou-l"}
    assert {record.name for record in TOWERS if record.remote_code} == {"keep", "hibou-l"}


@pytest.mark.parametrize("record", PUBLISHED, ids=ids)
def test_the_published_architecture_has_the_dimension_of_its_record(record: TowerRecord, tmp_path: Path) -> None:
    with torch.device("meta"):
        tower = load_image_tower(published(record, tmp_path / "model"), pretrained=False)
    assert tower.dim == record.dim


@pytest.mark.parametrize("record", [record for record in SMALL if record.modality == "image"], ids=ids)
def test_an_image_tower_frames_normalises_and_pools_as_published(record: TowerRecord, tmp_path: Path) -> None:
    tower = load_image_tower(small(record, tmp_path / "model"), remote_code=True).eval()
    patch = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    pixels = frame_patch(patch, framing=tower.framing)
    normal = normalised(patch, record.name)
    with torch.no_grad():
        seen = (pixels[None] / 255 - tower.mean) / tower.std
        # Pillow rounds between its two passes, which is worth a grey level or two.
        assert float((seen - normal).abs().max()) <= 2.01 / 255 / float(tower.std.min())
        found = tower(pixels[None])
        expected = pooled(record, getattr(tower.body, "model", tower.body), seen)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.shape == (1, tower.dim)
    assert float(found.std()) > 0


@pytest.mark.parametrize("record", [record for record in SMALL if record.modality == "text"], ids=ids)
def test_a_text_tower_reads_as_much_as_published(record: TowerRecord, tmp_path: Path) -> None:
    tower = load_text_tower(small(record, tmp_path / "model"), texts=[], remote_code=True).eval()
    tokens = tower.tokenizer.encode([*TEXTS, "cells " * 500])
    assert max(len(row) for row in tokens) == record.text_length
    with torch.no_grad():
        found = tower(tower.tokenizer.collate(tokens[:3]))
        alone = torch.cat([tower(tower.tokenizer.collate([row])) for row in tokens[:3]])
    assert found.shape == (3, tower.dim)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
    assert float((found[0] - found[1]).abs().max()) > 0


@pytest.mark.parametrize("record", SMALL, ids=ids)
def test_every_weight_of_a_tower_takes_part_in_its_features(record: TowerRecord, tmp_path: Path) -> None:
    """A weight without a gradient stalls training on several processes."""
    if record.modality == "image":
        tower: Any = load_image_tower(small(record, tmp_path / "model"), remote_code=True)
        batch: Any = torch.rand(2, 3, 224, 224)
    else:
        tower = load_text_tower(small(record, tmp_path / "model"), texts=[], remote_code=True)
        batch = tower.tokenizer.collate(tower.tokenizer.encode(TEXTS))
    tower(batch).sum().backward()
    idle = [name for name, parameter in tower.named_parameters() if parameter.grad is None]
    assert not idle
    if record.remote_code:
        return
    save_tower(tower, tmp_path / "saved")
    again = rebuild_tower(tmp_path / "saved")
    again.load_state_dict(tower.state_dict(), strict=True)
    assert again.record == tower.record


@pytest.mark.parametrize(
    ("name", "modality"), [("uni", "image"), ("biomedclip", "text"), ("plip", "image"), ("bert-base-uncased", "text")]
)
def test_a_prefetched_encoder_loads_from_the_cache_of_the_hub(
    name: str, modality: Modality, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    record = find_tower(name, modality=modality)
    reduced = small(record, tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    if name == "biomedclip":
        files["open_clip_config.json"] = files["open_clip_config.json"].replace(
            json.dumps(str(tmp_path / "model")).encode(), b'"owner/bert"'
        )
        put_in_cache(
            tmp_path / "hub", "owner/bert", {file: files.pop(file) for file in list(files) if "clip" not in file}
        )
    assert record.repository is not None
    put_in_cache(tmp_path / "hub", record.repository, files)
    check_tower(record)
    again = replace(reduced, source=record.source)
    if modality == "image":
        tower, folder_tower = (load_image_tower(one).state_dict() for one in (again, reduced))
    else:
        tower, folder_tower = (load_text_tower(one, texts=[]).state_dict() for one in (again, reduced))
    assert all(torch.equal(tower[key], tensor) for key, tensor in folder_tower.items())


@pytest.mark.parametrize("record", [record for record in TOWERS if record.loader == "package"], ids=ids)
def test_an_encoder_that_only_its_own_package_loads_fails_before_any_work(record: TowerRecord) -> None:
    with pytest.raises(InputError, match=rf"{record.name} can be loaded only by the package https://github\.com/"):
        check_tower(record, pretrained=False)


@pytest.mark.parametrize("name", ["conch", "keep", "uni"])
def test_training_with_an_encoder_that_cannot_be_used_stops_before_anything_is_written(
    name: str, make_config, tmp_path: Path
) -> None:
    remedy = {
        "conch": "only by the package",
        "keep": r"--trust_remote_code \[Astaxanthin/KEEP\]",
        "uni": "mmlnb prefetch uni",
    }
    with pytest.raises(InputError, match=remedy[name]):
        train(make_config(tmp_path / "run", image_tower=name, pretrained=True))
    assert not (tmp_path / "run").exists()


def test_training_lets_the_code_of_an_encoder_run_where_it_is_named(make_config, tmp_path: Path) -> None:
    for trusted, remedy in {"Astaxanthin/KEEP": "mmlnb prefetch keep", "histai/hibou-L": "--trust_remote_code"}.items():
        settings = {"image_tower": "keep", "pretrained": True, "trust_remote_code": (trusted,)}
        with pytest.raises(InputError, match=remedy):
            train(make_config(tmp_path / "run", **settings))


@pytest.mark.parametrize("record", [record for record in TOWERS if record.remote_code], ids=ids)
def test_code_that_comes_with_weights_runs_only_where_it_is_allowed(record: TowerRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"read it at https://huggingface\.co/{record.source}"):
        check_tower(record)
    folder = tmp_path / "model"
    reduced = small(record, folder)
    load: Any = load_image_tower if record.modality == "image" else load_text_tower
    arguments = {} if record.modality == "image" else {"texts": TEXTS}
    with pytest.raises(InputError, match="--trust_remote_code"):
        load(reduced, **arguments)
    assert not (folder / "ran").exists()
    tower = load(reduced, **arguments, remote_code=True)
    assert (folder / "ran").exists()
    save_tower(tower, tmp_path / "saved")
    with pytest.raises(InputError, match="runs code of its own"):
        rebuild_tower(tmp_path / "saved")


def test_a_wrong_resolution_is_a_warning_that_names_both_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tower = load_image_tower(small(find_tower("prov-gigapath", modality="image"), tmp_path / "model"))
    unknown = float("nan")
    # The tower sees 256 px, of which the crop keeps 224.
    warn_of_resolution(tower, extents=np.array([128.0, 128.0, unknown]))
    warn_of_resolution(tower, extents=np.array([unknown]))
    assert not caplog.records
    warn_of_resolution(tower, extents=np.array([256.0, unknown]))
    (record,) = caplog.records
    assert "prov-gigapath was trained at 0.5 µm/px and will see these patches at 1 µm/px" in record.getMessage()
