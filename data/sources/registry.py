"""Recognise what a source is by its name and content, and read it."""

import re
from collections.abc import Callable
from pathlib import Path

from data.errors import InputError
from data.sources.hugging_face import read_cached_dataset, read_dataset_folder
from data.sources.image_sets import find_image_sets, read_image_sets
from data.sources.json_file import read_json
from data.sources.row import Source
from data.sources.table import read_table

READERS: dict[str, Callable[[Path], Source]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
}
FORMS = (
    "a CSV with the columns file_name, patient_id, label; JSON or JSON Lines with `messages`, `conversations` or "
    "file_name in each entry; a folder with `images` and a CSV, or of such folders; the folder of a Hugging Face "
    "dataset, or its OWNER/NAME in the hub's cache"
)
_DATASET_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def read_source(path: Path, *, images: Path) -> Source:
    """Rows of `path`, a file, a folder or the name of a cached dataset.

    Args:
        images: folder for the images that lie inside the source, if there are any.

    Raises:
        InputError: there is no such thing, or it has none of the known forms.
    """
    if path.is_dir():
        if sets := find_image_sets(path):
            return read_image_sets(path, sets)
        return read_dataset_folder(path, images)
    if not path.is_file():
        if _DATASET_NAME.fullmatch(path.as_posix()) and path.suffix.lower() not in READERS:
            return read_cached_dataset(path.as_posix(), images)
        raise InputError(f"{path}: no such file; give {FORMS}")
    reader = READERS.get(path.suffix.lower()) or _by_content(path)
    if reader is None:
        raise InputError(f"{path}: not a form that is known; give {FORMS}")
    return reader(path)


def _by_content(path: Path) -> Callable[[Path], Source] | None:
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"[", b"{"):
        return read_json
    return read_table if b"file_name" in start.partition(b"\n")[0] else None
