"""Load image and text towers through transformers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion.record import Modality, TowerRecord
from fusion.tokens import TransformersTokenizer, train_word_pieces, word_pieces
from fusion.tower import ImageTower, TextTower, Tokens

VOCABULARY = 4000
"""Largest vocabulary of a tokenizer that is trained on the texts at hand."""

BILINEAR = 2
"""Pillow's number of the filter, which the settings of an image processor hold."""


HALVES: dict[Modality, tuple[str, ...]] = {
    "image": ("vision_model", "visual_projection", "visual", "visual_head"),
    "text": ("text_model", "text_projection", "text", "text_head"),
}
"""What the parts of a CLIP-like model are called that only one modality uses."""


class _Body(nn.Module):
    """A transformers encoder reduced to one vector per row."""

    def __init__(self, *, model: Any, record: TowerRecord) -> None:
        super().__init__()
        self.model = model
        self.pooling = record.pooling
        _drop_unused(model, pooling=record.pooling, modality=record.modality)

    def pool(self, output: Any, mask: Tensor | None) -> Tensor:
        if self.pooling == "pooler":
            return output.pooler_output
        hidden = output.last_hidden_state  # (N, L, D)
        if self.pooling == "class token":
            return hidden[:, 0]
        if self.pooling == "class token and mean":
            patches = hidden[:, 1 + getattr(self.model.config, "num_register_tokens", 0) :]
            return torch.cat([hidden[:, 0], patches.mean(dim=1)], dim=1)  # (N, 2 D)
        if mask is None:
            return hidden.mean(dim=1)
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


class _ImageBody(_Body):
    def forward(self, pixels: Tensor) -> Tensor:
        if self.pooling != "projection":
            return self.pool(self.model(pixel_values=pixels), None)
        if hasattr(self.model, "get_image_features"):
            return self.model.get_image_features(pixel_values=pixels).pooler_output
        return self.model.encode_image(pixels)


class _TextBody(_Body):
    def forward(self, tokens: Tokens) -> Tensor:
        if self.pooling != "projection":
            return self.pool(self.model(**tokens), tokens["attention_mask"])
        if hasattr(self.model, "get_text_features"):
            return self.model.get_text_features(**tokens).pooler_output
        return self.model.encode_text(tokens)


def load_transformers_image(record: TowerRecord, *, pretrained: bool) -> ImageTower:
    """Build an image tower from a transformers vision model, or from the image half of a CLIP-like one."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    settings = _settings(record)
    if pretrained:
        model = AutoModel.from_pretrained(record.source, use_safetensors=True, **settings)
    else:
        config = _config(record) or AutoConfig.from_pretrained(record.source, **settings)
        model = AutoModel.from_config(config, trust_remote_code=record.remote_code)
    known = _with_pooling(record, model)
    if None in (record.image_size, record.resize, record.interpolation, record.mean, record.std):
        processor = AutoImageProcessor.from_pretrained(record.source, **settings)
        resize = processor.size.get("height") or processor.size["shortest_edge"]
        size = record.image_size or (processor.crop_size["height"] if processor.do_center_crop else resize)
        known = replace(
            known,
            image_size=size,
            resize=record.resize or resize,
            interpolation=record.interpolation or ("bilinear" if processor.resample == BILINEAR else "bicubic"),
            mean=record.mean or tuple(processor.image_mean),
            std=record.std or tuple(processor.image_std),
        )
    return _wrap_image(known, model)


def rebuild_transformers_image(record: TowerRecord, folder: Path) -> ImageTower:
    """Build the architecture of a saved image tower, without weights."""
    return _wrap_image(record, _rebuild(record, folder))


def load_transformers_text(record: TowerRecord, *, pretrained: bool, texts: Sequence[str]) -> TextTower:
    """Build a text tower from a transformers encoder.

    Args:
        pretrained: load the record's weights and tokenizer; otherwise both start from nothing, the tokenizer being
            trained on `texts`.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    settings = _settings(record)
    if pretrained:
        model = AutoModel.from_pretrained(record.source, use_safetensors=True, **settings)
        text_config = model.config.get_text_config()
        length = record.text_length or min(512, getattr(text_config, "max_position_embeddings", 512))
        tokenizer = TransformersTokenizer(
            tokenizer=AutoTokenizer.from_pretrained(record.source, **settings), length=length
        )
    else:
        length = record.text_length or 128
        tokenizer = word_pieces(train_word_pieces(texts, vocabulary=VOCABULARY), length=length)
        config = _config(record) or AutoConfig.from_pretrained(record.source, **settings)
        text_config = config.get_text_config()
        text_config.vocab_size = len(tokenizer)
        text_config.pad_token_id = tokenizer.tokenizer.pad_token_id
        # A CLIP takes its features from the end mark.
        text_config.eos_token_id = tokenizer.tokenizer.sep_token_id
        model = AutoModel.from_config(config, trust_remote_code=record.remote_code)
    return _wrap_text(replace(_with_pooling(record, model), text_length=length), model, tokenizer)


def rebuild_transformers_text(record: TowerRecord, folder: Path) -> TextTower:
    """Build the architecture and tokenizer of a saved text tower, without weights."""
    from transformers import AutoTokenizer

    assert record.text_length is not None
    tokenizer = AutoTokenizer.from_pretrained(folder, **_settings(record))
    return _wrap_text(
        record, _rebuild(record, folder), TransformersTokenizer(tokenizer=tokenizer, length=record.text_length)
    )


def _rebuild(record: TowerRecord, folder: Path) -> Any:
    """The architecture that `folder` describes, without weights."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, **_settings(record))
    return AutoModel.from_config(config, trust_remote_code=record.remote_code)


def _config(record: TowerRecord) -> Any:
    """Configuration of a record that describes its architecture itself, else None."""
    from transformers import AutoConfig

    if not record.architecture:
        return None
    arguments = dict(record.architecture)
    return AutoConfig.for_model(arguments.pop("model_type"), **arguments)


def _settings(record: TowerRecord) -> dict[str, Any]:
    """What every `from_pretrained` is told; the caller has checked that the record's own code may run."""
    return {"local_files_only": True, "trust_remote_code": record.remote_code}


def _with_pooling(record: TowerRecord, model: Any) -> TowerRecord:
    """The record with the pooling that suits `model` where it leaves that to the model."""
    if record.pooling != "model":
        return record
    joint = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
    return replace(record, pooling="projection" if joint else "class token")


def _drop_unused(model: Any, *, pooling: str, modality: Modality) -> None:
    """Leave out what takes no part in the features: it would stall training on several processes."""
    if pooling == "projection":
        for name in (*HALVES["text" if modality == "image" else "image"], "logit_scale", "logit_bias"):
            if hasattr(model, name):
                delattr(model, name)
    elif pooling != "pooler" and isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    for module in model.modules():
        if isinstance(getattr(module, "mask_token", None), nn.Parameter):
            module.mask_token = None


def _wrap_image(record: TowerRecord, model: Any) -> ImageTower:
    body = _ImageBody(model=model, record=record)
    known = record
    if record.dim is None:
        assert record.image_size is not None
        known = replace(record, dim=_run_once(body, torch.zeros(1, 3, record.image_size, record.image_size)))
    return ImageTower(record=known, body=body, build={}, save=model.config.save_pretrained)


def _wrap_text(record: TowerRecord, model: Any, tokenizer: TransformersTokenizer) -> TextTower:
    body = _TextBody(model=model, record=record)
    known = replace(record, dim=record.dim or _run_once(body, tokenizer.collate(tokenizer.encode(["text"]))))
    return TextTower(record=known, body=body, tokenizer=tokenizer, build={}, save=model.config.save_pretrained)


def _run_once(body: nn.Module, batch: Any) -> int:
    """Length of the features that `body` makes."""
    with torch.no_grad():
        body.eval()
        dim: int = body(batch).shape[-1]
        body.train()
    return dim
