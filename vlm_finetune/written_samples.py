"""The tables of sample descriptions that a fine-tuning leaves, read again."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from data.errors import InputError

_HEAD = re.compile(r"# Samples after (\d+) steps\r?\n")
_ROW = re.compile(r'^\| <img src="([^"]*)" width="\d+" alt=""><br>(.*?) \| (.*?) \| (.*?) \|\r?$', re.MULTILINE)


@dataclass(frozen=True)
class WrittenSample:
    """One row of the table."""

    patch_id: str
    picture: Path
    """Of the patch; it may have gone since."""
    reference: str
    written: str


def read_samples(path: Path) -> tuple[int, list[WrittenSample]]:
    """Read a table that `Samples.write` wrote: the optimizer steps before it, and its rows.

    Raises:
        InputError: the file holds no such table.
    """
    # As bytes, since a caption may hold any other line end.
    text = path.read_bytes().decode()
    head = _HEAD.match(text)
    if head is None:
        raise InputError(f"{path}: not a table of samples; remove it, or fine-tune again")
    return int(head.group(1)), [
        WrittenSample(
            patch_id=text_of(patch),
            picture=path.parent / unquote(picture),
            reference=text_of(reference),
            written=text_of(written),
        )
        for picture, patch, reference, written in _ROW.findall(text)
    ]


def cell_of(text: str) -> str:
    """`text` as it is, in a cell of a Markdown table: what a model writes may hold anything."""
    safe = html.escape(text).replace("|", "&#124;").replace("\\", "&#92;").replace("`", "&#96;")
    return "<br>".join(safe.split("\n"))


def text_of(cell: str) -> str:
    """The text of which `cell_of` made `cell`."""
    return html.unescape(cell.replace("<br>", "\n"))
