"""Tokenizers of the text towers behind one interface, among them one trained on the texts at hand."""

import json
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fusion.tower import Tokens

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


class TransformersTokenizer:
    """A transformers tokenizer, padding to the longest text of the batch."""

    def __init__(self, *, tokenizer: Any, length: int) -> None:
        self.tokenizer = tokenizer
        self.length = length

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included."""
        if not texts:
            return []
        return self.tokenizer(list(texts), truncation=True, max_length=self.length)["input_ids"]

    def collate(self, ids: Sequence[Sequence[int]]) -> Tokens:
        """`input_ids` and `attention_mask`, each (N, L) with L the longest row."""
        longest = max(len(row) for row in ids)
        padded = torch.full((len(ids), longest), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(ids), longest), dtype=torch.long)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return {"input_ids": padded, "attention_mask": mask}

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and its settings."""
        self.tokenizer.save_pretrained(folder)


class OpenClipTokenizer:
    """An open_clip tokenizer; batches are padded to the model's length, which its position table expects."""

    def __init__(self, *, tokenizer: Any, length: int) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.padding = int(tokenizer([""], context_length=length)[0, -1])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included and the padding behind them left out."""
        if not texts:
            return []
        rows = self.tokenizer(list(texts), context_length=self.length).tolist()
        return [
            row[: max((place + 1 for place, one in enumerate(row) if one != self.padding), default=0)] for row in rows
        ]

    def collate(self, ids: Sequence[Sequence[int]]) -> Tokens:
        """`input_ids` of shape (N, L)."""
        rows = torch.full((len(ids), self.length), self.padding, dtype=torch.long)
        for row, own in zip(rows, ids, strict=True):
            row[: len(own)] = torch.tensor(own, dtype=torch.long)
        return {"input_ids": rows}

    def save(self, folder: Path) -> None:
        """Write the files of a Hugging Face tokenizer; open_clip ships its own vocabulary otherwise."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            inner.save_pretrained(folder)


def train_word_pieces(texts: Sequence[str], *, vocabulary: int) -> str:
    """Make a lower-casing WordPiece tokenizer for `texts`; returns it as JSON, the same for the same texts.

    The vocabulary holds the commonest words whole, and every character to spell the others with. The trainer of the
    tokenizers library is not used: it numbers its pieces in another order each time, and with them the weights.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in counts for character in word} | set(string.ascii_lowercase))
    pieces = [*SPECIAL.values(), *characters, *(f"##{character}" for character in characters)]
    common = sorted(
        (word for word, count in counts.items() if count > 1 and len(word) > 1), key=lambda w: (-counts[w], w)
    )
    pieces += common[: max(0, vocabulary - len(pieces))]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, pieces.index(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)


def word_pieces(content: str, *, length: int) -> TransformersTokenizer:
    """The tokenizer that `train_word_pieces` returned as JSON, as a transformers tokenizer."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(content), model_max_length=length, **SPECIAL)
    return TransformersTokenizer(tokenizer=fast, length=length)
