"""The captions that stage 1 wrote, as texts by patch."""

from dataclasses import dataclass
from pathlib import Path

from data.captions import read_captions


@dataclass(frozen=True)
class CaptionTexts:
    """Usable captions of a folder."""

    texts: dict[str, str]
    """Text by `patch_id`."""
    failed: int
    """Patches whose caption has an error or is empty."""


def read_caption_texts(folder: Path) -> CaptionTexts:
    """Read the captions of `folder`; one with an error or without words counts as failed.

    Raises:
        InputError: no parts, or one that cannot be read or lacks a column.
    """
    frame = read_captions(folder, columns=("patch_id", "text", "error"))
    texts = {
        patch: text.strip()
        for patch, text, error in zip(frame["patch_id"], frame["text"], frame["error"], strict=True)
        if not error and text and text.strip()
    }
    return CaptionTexts(texts=texts, failed=len(frame) - len(texts))
