"""Encode what a stage freezes once, or read it where the same tower has encoded the same rows before."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from data.atomic import digest
from fusion.curriculum import Stage
from fusion.encode import encode_images, encode_texts
from fusion.feature_store import FeatureStore
from fusion.model import fingerprint
from fusion.run_folder import STATE
from fusion.tower import ImageTower, TextTower
from fusion.training import Training


def encode_frozen(run: Training, stage: Stage) -> None:
    """Hand the features of the towers that `stage` freezes to the feed; what trains is encoded at every step."""
    model, feed, accelerator = run.model, run.feed, run.accelerator
    model.eval()
    feed.image_features = feed.text_features = None

    def images() -> Tensor:
        return encode_images(model, feed.images, accelerator=accelerator, progress=run.progress_bars)

    def texts() -> Tensor:
        return encode_texts(model, feed.ids, accelerator=accelerator, progress=run.progress_bars)

    if "image" in stage.freeze:
        feed.image_features = _features(run, model.image_tower, images, inputs=lambda: feed.images.content)
    if "text" in stage.freeze:
        feed.text_features = _features(run, model.text_tower, texts, inputs=lambda: json.dumps(feed.ids))


def features_folder(run: Training) -> Path:
    """The shared folder of the settings, or one that is removed with the checkpoint when the run is finished."""
    return run.config.features or run.config.out / STATE / "features"


def _features(
    run: Training, tower: ImageTower | TextTower, encode: Callable[[], Tensor], *, inputs: Callable[[], str]
) -> Tensor:
    """Features (N, D) on the device: read where every process can, else encoded by all and written by one."""
    from accelerate.utils import broadcast_object_list

    accelerator = run.accelerator
    named = [_key(run, tower, inputs()) if accelerator.is_main_process else None]
    key = broadcast_object_list(named)[0]
    assert key is not None
    store = FeatureStore(features_folder(run), warn=accelerator.is_main_process)
    found = _load(run, store, key)
    if found is not None:
        return found
    features = encode()
    if accelerator.is_main_process:
        store.save(key, features.cpu().numpy())
    accelerator.wait_for_everyone()
    found = _load(run, store, key)
    return features if found is None else found


def _load(run: Training, store: FeatureStore, key: str) -> Tensor | None:
    """The features of `key` where all processes see them; they may run on machines without a common disk."""
    from accelerate.utils import gather_object

    found = store.load(key)
    # Asked on every process, found or not, or the others would wait for this one.
    everywhere = all(gather_object([found is not None]))
    if found is None or not everywhere:
        return None
    return torch.from_numpy(found).to(run.accelerator.device)


def _key(run: Training, tower: ImageTower | TextTower, inputs: str) -> str:
    """Hash of everything that decides the features: weights, preparation, input, arithmetic and library."""
    arithmetic = ("bf16" if tower.bf16 else "fp32", run.accelerator.device.type, torch.__version__)
    record = json.dumps(asdict(tower.record), sort_keys=True)
    return digest("features 1", fingerprint(tower), record, inputs, *arithmetic)
