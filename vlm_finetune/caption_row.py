"""One row of the captions on disk."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CaptionRow:
    """One row of a part."""

    patch_id: str
    text: str | None
    key: str
    tokens: int
    mean_logprob: float | None
    error: str | None
    flags: str
    """What is odd about the text, by comma: cut (it met the limit of tokens), loop (it repeated itself); else empty."""
