"""Read JSON Lines, or a JSON list, of patches."""

import json
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError
from data.sources.entry import source_of
from data.sources.row import Fault, Source, SourceRow


def read_json(path: Path) -> Source:
    """Rows of a JSON list or of JSON Lines, told apart by the first character; each entry a chat or plain fields.

    A line that is not JSON becomes a row with a fault.

    Raises:
        InputError: not UTF-8, a list that is not JSON, or nothing in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not JSON in UTF-8 ({error}); save it as UTF-8") from error
    entries = _list(text, path) if text.lstrip()[:1] == "[" else _lines(text)
    source = source_of(path, path.parent, entries)
    if not source.rows:
        raise InputError(f"{path}: holds no entries; add one per patch")
    return source


def _list(text: str, path: Path) -> Iterator[tuple[str, object]]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); write it again whole") from error
    for number, entry in enumerate(entries, 1):
        yield f"entry {number}", entry


def _lines(text: str) -> Iterator[tuple[str, object]]:
    # Not splitlines: a text may hold the line separators of Unicode, which JSON does not escape.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, SourceRow(where=where, fault=Fault(f"not JSON ({error})", "write one JSON object per line"))
