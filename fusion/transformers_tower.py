"""Load image and text towers through transformers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fusion.record import TowerRecord
from fusion.tokens import TransformersTokenizer, train_word_pieces, word_pieces
from fusion.tower import ImageTower, TextTower, Tokens

VOCABULARY = 4000
"""Largest vocabulary of a tokenizer that is trained on the texts at hand."""


class _Pooled(nn.Module):
    """A transformers encoder reduced to one vector per row."""

    def __init__(self, *, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def pool(self, output: Any, mask: Tensor | None) -> Tensor:
        if self.pooling == "pooler":
            return output.pooler_output
        hidden = output.last_hidden_state  # (N, L, D)
        if self.pooling == "class token":
            return hidden[:, 0]
        if mask is None:
            return hidden.mean(dim=1)
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


class _ImageBody(_Pooled):
    def forward(self, pixels: Tensor) -> Tensor:
        return self.pool(self.model(pixel_values=pixels), None)


class _TextBody(_Pooled):
    def forward(self, tokens: Tokens) -> Tensor:
        return self.pool(self.model(**tokens), tokens["attention_mask"])


def load_transformers_image(record: TowerRecord, *, pretrained: bool) -> ImageTower:
    """Build an image tower from a transformers vision model."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    settings = {"local_files_only": True, "trust_remote_code": False}
    if pretrained:
        model = AutoModel.from_pretrained(record.source, **settings)
    else:
        model = AutoModel.from_config(_config(record) or AutoConfig.from_pretrained(record.source, **settings))
    known = record
    if None in (record.image_size, record.mean, record.std):
        processor = AutoImageProcessor.from_pretrained(record.source, **settings)
        size = processor.size.get("height") or processor.size["shortest_edge"]
        known = replace(
            record,
            image_size=record.image_size or size,
            mean=record.mean or tuple(processor.image_mean),
            std=record.std or tuple(processor.image_std),
        )
    return _wrap_image(known, model)


def rebuild_transformers_image(record: TowerRecord, folder: Path) -> ImageTower:
    """Build the architecture of a saved image tower, without weights."""
    from transformers import AutoConfig, AutoModel

    return _wrap_image(record, AutoModel.from_config(AutoConfig.from_pretrained(folder)))


def load_transformers_text(record: TowerRecord, *, pretrained: bool, texts: Sequence[str]) -> TextTower:
    """Build a text tower from a transformers encoder.

    Args:
        pretrained: load the record's weights and tokenizer; otherwise both start from nothing, the tokenizer being
            trained on `texts`.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    settings = {"local_files_only": True, "trust_remote_code": False}
    if pretrained:
        model = AutoModel.from_pretrained(record.source, **settings)
        length = record.text_length or min(512, getattr(model.config, "max_position_embeddings", 512))
        tokenizer = TransformersTokenizer(
            tokenizer=AutoTokenizer.from_pretrained(record.source, **settings), length=length
        )
    else:
        length = record.text_length or 128
        tokenizer = word_pieces(train_word_pieces(texts, vocabulary=VOCABULARY), length=length)
        config = _config(record) or AutoConfig.from_pretrained(record.source, **settings)
        config.vocab_size = len(tokenizer)
        config.pad_token_id = tokenizer.tokenizer.pad_token_id
        model = AutoModel.from_config(config)
    return _wrap_text(replace(record, text_length=length), model, tokenizer)


def rebuild_transformers_text(record: TowerRecord, folder: Path) -> TextTower:
    """Build the architecture and tokenizer of a saved text tower, without weights."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    assert record.text_length is not None
    model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    tokenizer = TransformersTokenizer(tokenizer=AutoTokenizer.from_pretrained(folder), length=record.text_length)
    return _wrap_text(record, model, tokenizer)


def _config(record: TowerRecord) -> Any:
    """Configuration of a record that describes its architecture itself, else None."""
    from transformers import AutoConfig

    if not record.architecture:
        return None
    arguments = dict(record.architecture)
    return AutoConfig.for_model(arguments.pop("model_type"), **arguments)


def _wrap_image(record: TowerRecord, model: Any) -> ImageTower:
    body = _ImageBody(model=model, pooling=record.pooling)
    known = replace(record, dim=record.dim or model.config.hidden_size)
    return ImageTower(record=known, body=body, build={}, save=model.config.save_pretrained)


def _wrap_text(record: TowerRecord, model: Any, tokenizer: TransformersTokenizer) -> TextTower:
    body = _TextBody(model=model, pooling=record.pooling)
    known = replace(record, dim=record.dim or model.config.hidden_size)
    return TextTower(record=known, body=body, tokenizer=tokenizer, build={}, save=model.config.save_pretrained)
