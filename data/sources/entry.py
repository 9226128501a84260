"""Read one JSON object as a patch: a chat, or plain fields beside the name of an image."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.sources.conversation import BESIDE, image_reference, read_conversations, read_messages
from data.sources.row import NAMES, FaultError, Source, SourceRow, named_fields, read_entry


def row_of(entry: object, where: str) -> SourceRow:
    """The row that `entry` states, or a row with the fault that hinders it."""
    return read_entry(where, lambda: _row(entry, where))


def source_of(path: Path, base: Path, entries: Iterable[tuple[str, object]], **settings: Any) -> Source:
    """A source from (place, entry) pairs; an entry that is a row already is taken as it is."""
    rows, found = [], dict[str, None]()
    for where, entry in entries:
        rows.append(entry if isinstance(entry, SourceRow) else row_of(entry, where))
        if isinstance(entry, dict):
            found |= dict.fromkeys(map(str, entry))
    columns = [name for name in NAMES if any(getattr(row, name) for row in rows)]
    # An answer that is empty in every chat is a missing description, not a source without descriptions.
    if any(row.question for row in rows) and "description" not in columns:
        columns.append("description")
    return Source(path, base, tuple(rows), columns=tuple(columns), found=tuple(found), **settings)


def _row(entry: object, where: str) -> SourceRow:
    if not isinstance(entry, dict):
        raise FaultError(f"a {type(entry).__name__} where an object was expected", "write one JSON object per patch")
    if entry.get("messages") is not None:
        return read_messages(entry, where)
    if entry.get("conversations") is not None:
        return read_conversations(entry, where)
    image = next((entry[name] for name in NAMES["file_name"] if entry.get(name) is not None), None)
    if image is None:
        raise FaultError("none of the keys messages, conversations, file_name or image", "name the patch's image")
    return SourceRow(
        where=where, fault=None, file_name=image_reference(image), **named_fields(entry, only=(*BESIDE, "description"))
    )
