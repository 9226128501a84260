"""Read folders that hold a CSV and the folder `images`: the layout of the release of arXiv 2503.12927."""

from pathlib import Path

from data.errors import InputError
from data.sources.joined import Table, join_tables
from data.sources.row import Source
from data.sources.table import read_table

IMAGES = "images"
_OTHER = "metadata.csv"
"""What a Hugging Face image folder calls its table, which has a reader of its own."""


def find_image_sets(folder: Path) -> list[Path]:
    """The folders with `images` in them, `folder` itself or else those right below it; none where none has a CSV."""
    places = [folder] if (folder / IMAGES).is_dir() else sorted(path for path in folder.iterdir() if path.is_dir())
    sets = [place for place in places if (place / IMAGES).is_dir()]
    return sets if any(_tables(place) for place in sets) else []


def read_image_sets(folder: Path, sets: list[Path]) -> Source:
    """Rows of the one CSV in each of `sets`; its names start in `images`, or with it.

    Raises:
        InputError: a set without a CSV or with several, or a CSV that cannot be read.
    """
    tables = []
    for place in sets:
        files = _tables(place)
        if not files:
            raise InputError(f"{place}: holds images but no CSV; add one with the columns file_name and class")
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(f"{place}: holds {len(files)} CSV files ({names}); keep the one that lists its images")
        tables.append(Table(files[0], read_table(files[0])))
    return join_tables(folder, tables, image=_image)


def _tables(place: Path) -> list[Path]:
    files = (path for path in place.iterdir() if path.suffix.lower() == ".csv" and path.name != _OTHER)
    return sorted(path for path in files if path.is_file())


def _image(table: Path, name: str) -> Path:
    return table.parent / name if Path(name).parts[:1] == (IMAGES,) else table.parent / IMAGES / name
