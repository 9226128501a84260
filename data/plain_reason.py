"""What the error of a library says, without what it quotes: that may come from a slide and name a patient."""

import re
import traceback
from collections.abc import Iterator

_QUOTED = re.compile(r"b?'[^']*'|b?\"[^\"]*\"|<[^<>]*>")


def plain_reason(error: BaseException) -> str:
    """The message of `error` on one line, everything in quotes or angle brackets left out."""
    return " ".join(_QUOTED.sub("…", str(error)).split())


def plain_trace(error: BaseException) -> str:
    """The traceback of `error` and of what caused it, each message as `plain_reason` gives it; notes stay."""
    return "\nwhich led to\n\n".join(reversed(list(_traces(error))))


def _traces(error: BaseException) -> Iterator[str]:
    current: BaseException | None = error
    while current is not None:
        lines = "".join(traceback.format_tb(current.__traceback__))
        notes = "".join(f"{note.rstrip()}\n" for note in getattr(current, "__notes__", []))
        yield f"{lines}{type(current).__name__}: {plain_reason(current)}\n{notes}"
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
