"""One row of the captions on disk."""

from dataclasses import dataclass

from vlm_finetune.decoding import Caption


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
    copy_of: str | None
    """Patch that the text was written about, where it is another one with equal or nearly equal pixels."""
    alternatives: tuple[str, ...]
    """Further texts, where they were asked for."""

    @classmethod
    def written(cls, patch_id: str, key: str, caption: Caption) -> "CaptionRow":
        """Row of what the model wrote."""
        flags = ",".join(caption.flags)
        mean, text = caption.mean_logprob, caption.text or None
        return cls(patch_id, text, key, caption.tokens, mean, caption.error, flags, None, caption.alternatives)

    @classmethod
    def failed(cls, patch_id: str, key: str, error: str) -> "CaptionRow":
        """Row of a patch that could not be read."""
        return cls(patch_id, None, key, 0, None, error, "", None, ())
