"""Load image towers through timm."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fusion.record import TowerRecord
from fusion.tower import ImageTower


class _TimmBody(nn.Module):
    """A timm model with the pooling that its record asks for."""

    def __init__(self, *, model: Any, pooling: str) -> None:
        super().__init__()
        if pooling == "mean" and hasattr(model, "pre_logits"):
            # VGG keeps a layer of 100 million weights between its features and its head, which pooling leaves out.
            model.pre_logits = nn.Identity()
        self.model = model
        self.pooling = pooling

    def forward(self, pixels: Tensor) -> Tensor:
        if self.pooling == "mean":
            return self.model.forward_features(pixels).mean(dim=(2, 3))  # (N, D, h, w) -> (N, D)
        if self.pooling == "class token and mean":
            tokens = self.model.forward_features(pixels)  # (N, L, D): class token, registers, patches
            return torch.cat([tokens[:, 0], tokens[:, self.model.num_prefix_tokens :].mean(dim=1)], dim=1)  # (N, 2 D)
        return self.model(pixels)


def load_timm(record: TowerRecord, *, pretrained: bool) -> ImageTower:
    """Build a timm image tower.

    Args:
        pretrained: load the record's weights; the caller has checked that they are here.
    """
    import timm

    arguments = dict(record.architecture)
    model = timm.create_model(record.source, pretrained=pretrained, num_classes=0, **_layers(arguments))
    if record.source.partition(":")[0] in ("hf-hub", "hf_hub", "local-dir"):
        resolved: dict[str, Any] = timm.models.resolve_model_input_args(record.source, **arguments)
        name = resolved.pop("model_name")
        for key in ("pretrained_cfg", "pretrained_model_args"):
            resolved.pop(key, None)
        build = {"name": name, "arguments": resolved}
    else:
        build = {"name": record.source.partition(".")[0], "arguments": arguments}
    settings = timm.data.resolve_model_data_config(model)
    size = record.image_size or settings["input_size"][-1]
    known = replace(
        record,
        image_size=size,
        resize=record.resize or math.floor(size / settings["crop_pct"]),
        interpolation=record.interpolation or ("bilinear" if settings["interpolation"] == "bilinear" else "bicubic"),
        mean=record.mean or tuple(settings["mean"]),
        std=record.std or tuple(settings["std"]),
    )
    return _wrap(known, model=model, build=build)


def rebuild_timm(record: TowerRecord, build: dict[str, Any]) -> ImageTower:
    """Build the architecture of a saved tower, without weights."""
    import timm

    model = timm.create_model(build["name"], pretrained=False, num_classes=0, **_layers(build["arguments"]))
    return _wrap(record, model=model, build=build)


def _layers(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an architecture with the name of its MLP replaced by the class, which timm does not look up."""
    import timm

    if not isinstance(arguments.get("mlp_layer"), str):
        return arguments
    return arguments | {"mlp_layer": getattr(timm.layers, arguments["mlp_layer"])}


def _wrap(record: TowerRecord, *, model: nn.Module, build: dict[str, Any]) -> ImageTower:
    body = _TimmBody(model=model, pooling=record.pooling).to(memory_format=torch.channels_last)
    known = record
    if record.dim is None:
        assert record.image_size is not None
        # Running it once is the only way that holds for every architecture and pooling.
        with torch.no_grad():
            body.eval()
            known = replace(record, dim=body(torch.zeros(1, 3, record.image_size, record.image_size)).shape[-1])
            body.train()
    return ImageTower(record=known, body=body, build=build)
