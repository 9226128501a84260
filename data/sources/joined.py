"""Several tables in one folder become one source."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.sources.row import Source, SourceRow


@dataclass(frozen=True)
class Table:
    """One table in the folder."""

    file: Path
    rows: Source
    split: str = ""
    """Of the rows that state none."""


def join_tables(folder: Path, tables: Sequence[Table], *, image: Callable[[Path, str], Path]) -> Source:
    """The rows of `tables`, each with its file before its place.

    Args:
        image: path of an image inside `folder`, from the file of its table and the name that the table gives it.
    """
    rows: list[SourceRow] = []
    columns, found = dict[str, None](), dict[str, None]()
    for table in tables:
        for row in table.rows.rows:
            where = f"{table.file.relative_to(folder).as_posix()}, {row.where}"
            if row.fault is None and row.file_name:
                path = image(table.file, row.file_name)
                name = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
                rows.append(replace(row, where=where, file_name=name, split=row.split or table.split))
            else:
                rows.append(replace(row, where=where))
        columns |= dict.fromkeys((*table.rows.columns, *(["split"] if table.split else [])))
        found |= dict.fromkeys(table.rows.found)
    return Source(folder, folder, tuple(rows), columns=tuple(columns), found=tuple(found))
