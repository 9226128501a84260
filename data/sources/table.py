"""Read a CSV of patches: commas, semicolons or tabs, with a header."""

import csv
import io
from pathlib import Path

from data.errors import InputError
from data.problems import one_line
from data.sources.row import NAMES, Fault, Source, SourceRow

# A description may be long; a field beyond this is a quotation mark that was never closed.
LONGEST_FIELD = 1 << 20


def read_table(path: Path, *, needed: tuple[str, ...] = ("file_name", "label")) -> Source:
    """Rows of a CSV; a line with too few or too many fields becomes a row with a fault.

    Raises:
        InputError: not UTF-8, not a CSV, a column of `needed` is missing, or no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    # "file_name, description, class": the space belongs to the writing, not to the values.
    spaced = f"{delimiter} " in header
    previous = csv.field_size_limit(LONGEST_FIELD)
    try:
        lines, start = [], 1
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced, strict=True)
        for fields in reader:
            if fields:
                lines.append((f"line {start}", fields))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {start}: not a CSV file ({error}); put texts in double quotes, and double those inside"
        ) from error
    finally:
        csv.field_size_limit(previous)
    if not lines:
        raise InputError(f"{path}: not a CSV file (it is empty); write a header and one row per patch")
    columns = [name.strip() for name in lines[0][1]]
    index = _columns(columns, path, needed)
    if len(lines) == 1:
        raise InputError(f"{path}: the CSV has no rows; add one row per patch")
    rows = tuple(_row(where, fields, columns, index) for where, fields in lines[1:])
    return Source(path, path.parent, rows, columns=tuple(index), found=tuple(columns))


def _columns(columns: list[str], path: Path, needed: tuple[str, ...]) -> dict[str, int]:
    """Position of each field that the header names."""
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: column {one_line(twice)} occurs twice; keep one")
    index = {}
    for name, spellings in NAMES.items():
        spelt = next((spelling for spelling in spellings if spelling in columns), None)
        if spelt is not None:
            index[name] = columns.index(spelt)
    for name in needed:
        if name not in index:
            found = one_line(", ".join(columns))
            raise InputError(f"{path}: column {name} is missing (found: {found}); add it to the CSV")
    return index


def _row(where: str, fields: list[str], columns: list[str], index: dict[str, int]) -> SourceRow:
    if len(fields) != len(columns):
        what = f"{len(fields)} fields where the header has {len(columns)}"
        return SourceRow(where=where, fault=Fault(what, "put texts with commas in double quotes"))
    return SourceRow(where=where, fault=None, **{name: fields[position] for name, position in index.items()})
