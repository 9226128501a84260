"""Load image and text towers through open_clip; each keeps only its own half of the model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.atomic import write_json
from fusion.record import TowerRecord
from fusion.tokens import OpenClipTokenizer
from fusion.tower import ImageTower, TextTower, Tokens

CONFIG = "open_clip_config.json"
SAVED_BESIDE = "."
"""Stands for the folder itself where a saved model names the configuration of its text encoder."""


class _ClipText(nn.Module):
    """The text half of a CLIP, whichever of open_clip's two layouts it has."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not hasattr(model, "text"):
            # The older layout keeps the text modules beside `visual` in one class.
            model.visual = nn.Identity()
            # A parameter that takes no part in the features would stall training on several processes.
            model.logit_scale = model.logit_bias = None
        self.model = model.text if hasattr(model, "text") else model

    def forward(self, tokens: Tokens) -> Tensor:
        encode: Callable[[Tensor], Tensor] = getattr(self.model, "encode_text", self.model)
        return encode(tokens["input_ids"])


def load_open_clip(record: TowerRecord, *, pretrained: bool) -> ImageTower | TextTower:
    """Build one half of an open_clip model.

    Args:
        pretrained: load the record's weights; the caller has checked that they are here.
    """
    name, _, tag = record.source.partition("@") if ":" not in record.source else (record.source, "", "")
    return _build(record, name=name, tag=tag or None, pretrained=pretrained)


def rebuild_open_clip(record: TowerRecord, folder: Path) -> ImageTower | TextTower:
    """Build the architecture of a saved half from its folder, without weights."""
    return _build(record, name=f"local-dir:{folder}", tag=None, pretrained=False)


def _build(record: TowerRecord, *, name: str, tag: str | None, pretrained: bool) -> ImageTower | TextTower:
    import open_clip
    from transformers import dynamic_module_utils

    # open_clip leaves it to transformers, which would ask on the terminal whether code of the text encoder may run.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    config = _model_config(name)
    text = dict(config["model_cfg"]["text_cfg"])
    if text.get("hf_model_name") == SAVED_BESIDE:
        text["hf_model_name"] = name.removeprefix("local-dir:")
    if text.get("hf_model_name"):
        # `pretrained_text` does not reach a text_cfg that is given; the borrowed weights would be replaced anyway.
        text["hf_model_pretrained"] = False
    model = open_clip.create_model(
        name,
        pretrained=tag if pretrained else None,
        load_weights=pretrained,
        require_pretrained=pretrained,
        weights_only=True,
        pretrained_image=False,
        pretrained_text=False,
        text_cfg=text,
    )
    text_config = getattr(getattr(model, "text", None), "config", None)

    def save(folder: Path) -> None:
        saved = json.loads(json.dumps(config))
        if text.get("hf_model_name"):
            saved["model_cfg"]["text_cfg"]["hf_model_name"] = SAVED_BESIDE
            assert text_config is not None
            text_config.save_pretrained(folder)
        write_json(folder / CONFIG, saved)

    if record.modality == "image":
        visual = model.visual
        size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
        settings = visual.preprocess_cfg
        known = replace(
            record,
            image_size=record.image_size or size,
            resize=record.resize or record.image_size or size,
            interpolation=record.interpolation
            or ("bilinear" if settings["interpolation"] == "bilinear" else "bicubic"),
            mean=record.mean or tuple(settings["mean"]),
            std=record.std or tuple(settings["std"]),
        )
        assert known.image_size is not None
        with torch.no_grad():
            visual.eval()
            known = replace(known, dim=visual(torch.zeros(1, 3, known.image_size, known.image_size)).shape[-1])
            visual.train()
        return ImageTower(record=known, body=visual, build={}, save=save)
    length = record.text_length or model.context_length
    tokenizer = OpenClipTokenizer(tokenizer=open_clip.get_tokenizer(name), length=length)
    body = _ClipText(model)
    with torch.no_grad():
        body.eval()
        dim = body(tokenizer.collate(tokenizer.encode(["text"]))).shape[-1]
        body.train()
    known = replace(record, text_length=length, dim=dim)
    return TextTower(record=known, body=body, tokenizer=tokenizer, build={}, save=save)


def _model_config(name: str) -> dict[str, Any]:
    """The model's configuration as it is stored, before open_clip edits it."""
    import open_clip

    if name.startswith("local-dir:"):
        path = Path(name.removeprefix("local-dir:")) / CONFIG
    elif name.startswith("hf-hub:"):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(name.removeprefix("hf-hub:"), CONFIG, local_files_only=True))
    else:
        return {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    return json.loads(path.read_text(encoding="utf-8"))
