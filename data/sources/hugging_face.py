"""Read a Hugging Face dataset from a folder or, by name, from the hub's cache on this machine."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from data.inside import is_inside
from data.problems import one_line
from data.sources.entry import source_of
from data.sources.joined import Table, join_tables
from data.sources.json_file import read_json
from data.sources.row import Source
from data.sources.table import read_table

if TYPE_CHECKING:
    import datasets

METADATA: dict[str, Callable[[Path], Source]] = {
    "metadata.csv": partial(read_table, needed=("file_name",)),
    "metadata.jsonl": read_json,
}
SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
_SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")
_SUFFIX = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\x00": ".tif", b"MM\x00*": ".tif", b"RIFF": ".webp"}
_BATCH = 64
_SPLIT_NAME = re.compile(r"\w[\w.-]*")


def read_dataset_folder(folder: Path, images: Path) -> Source:
    """Rows of a dataset that `save_to_disk` wrote, of images with a metadata file, or of anything `load_dataset` reads.

    Images inside the dataset are written to the folder `images`; those that lie as files stay where they are.

    Raises:
        InputError: no dataset there, or one that cannot be read.
    """
    if any((folder / name).is_file() for name in _SAVED):
        from datasets import load_from_disk

        return _read(folder, lambda: load_from_disk(str(folder)), images)
    if metadata := _metadata(folder):
        return _image_folder(folder, metadata)
    if any(path.suffix in (".parquet", ".arrow") for path in folder.rglob("*.*")):
        # A cache of its own: one made from an older state of the folder is never met.
        with tempfile.TemporaryDirectory() as cache:
            return _read(folder, lambda: _load_parquet(folder, cache), images)
    raise InputError(
        f"{folder}: holds no dataset; expected what save_to_disk wrote, {' or '.join(METADATA)} beside images, "
        "a CSV beside the folder `images`, or Parquet files"
    )


def read_cached_dataset(name: str, images: Path) -> Source:
    """Rows of the dataset OWNER/NAME from the hub's cache; the network is never asked.

    Raises:
        InputError: it is not in the cache, or cannot be read.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, repo_type="dataset", local_files_only=True)
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"{name}: no such file or folder, and no dataset of this name in the hub's cache; "
            f"fetch it with `hf download --repo-type dataset {name}`"
        ) from error
    source = read_dataset_folder(Path(folder), images)
    return replace(source, path=Path(name))


def _load_parquet(folder: Path, cache: str) -> Any:
    """What `load_dataset` makes of `folder`; a card in it may name files of any kind and place, which are refused."""
    from datasets import load_dataset, load_dataset_builder

    files = load_dataset_builder(str(folder), cache_dir=cache).config.data_files or {}
    for file in (Path(name) for names in files.values() for name in names):
        if file.suffix not in (".parquet", ".arrow") or not is_inside(file, folder):
            raise ValueError(f"{file} is no Parquet or Arrow file in it")
    return load_dataset(str(folder), cache_dir=cache)


def _metadata(folder: Path) -> list[Path]:
    """Metadata files of `folder` itself, or else of its sub-folders that are named after splits."""
    places = [[folder], [folder / name for name in SPLIT_OF]]
    files = [[place / name for place in some for name in METADATA if (place / name).is_file()] for some in places]
    return files[0][:1] or files[1]


def _image_folder(folder: Path, files: list[Path]) -> Source:
    """Rows of the metadata files; several of them are the splits that their folders are named after."""
    splits = [SPLIT_OF[file.parent.name] if len(files) > 1 else "" for file in files]
    tables = [Table(file, METADATA[file.name](file), split) for file, split in zip(files, splits, strict=True)]
    return join_tables(folder, tables, image=lambda file, name: file.parent / name)


def _read(folder: Path, load: Callable[[], Any], images: Path) -> Source:
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars, enable_progress_bars
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    try:
        loaded = load()
        splits = {"": loaded} if isinstance(loaded, Dataset) else dict(loaded)
        saver = _ImageSaver(folder, images)
        source = source_of(folder, images, _entries(splits, saver))
        return replace(source, embedded=saver.saved > 0)
    except (DatasetsError, pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        # The library's own message may run over many lines; the first says what is wrong.
        first = one_line((str(error).strip() or type(error).__name__).splitlines()[0])
        raise InputError(f"{folder}: cannot be read as a Hugging Face dataset ({first}); save it again") from error
    finally:
        enable_progress_bars()


def _entries(splits: "Mapping[str, datasets.Dataset]", saver: "_ImageSaver") -> Iterator[tuple[str, object]]:
    """(place, entry) of every row, classes by name and images as paths."""
    from datasets import ClassLabel

    for name, dataset in splits.items():
        # Images are written to a folder of this name.
        if name and not _SPLIT_NAME.fullmatch(name):
            raise ValueError(f"a split is called {name!r}")
        classes = {key: kind.names for key, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
        # As Arrow: with any other format each image would be decoded here, and again when it is checked.
        table = dataset.with_format("arrow")
        for start in range(0, len(dataset), _BATCH):
            for index, entry in enumerate(table[start : start + _BATCH].to_pylist(), start):
                for key, names in classes.items():
                    known = entry[key] is not None and 0 <= entry[key] < len(names)
                    entry[key] = names[entry[key]] if known else None
                if len(splits) > 1 and entry.get("split") is None:
                    entry["split"] = SPLIT_OF.get(name.lower(), name)
                yield f"{name or 'dataset'}[{index}]", saver.paths(entry, folder=name, index=index)


class _ImageSaver:
    """Writes the images of entries as files, under the names that they had."""

    def __init__(self, source: Path, images: Path) -> None:
        self.source = source
        self.images = images
        self.taken: set[str] = set()

    @property
    def saved(self) -> int:
        """Number of images written."""
        return len(self.taken)

    def paths(self, value: Any, *, folder: str, index: int) -> Any:
        """`value` with every image in it replaced by the path of its file: relative where it was written here."""
        if isinstance(value, list):
            return [self.paths(entry, folder=folder, index=index) for entry in value]
        if not isinstance(value, dict):
            return value
        if value.keys() != {"bytes", "path"}:
            return {key: self.paths(entry, folder=folder, index=index) for key, entry in value.items()}
        if value["bytes"] is None:
            return None if value["path"] is None else str(self.source / value["path"])
        return self._save(value["bytes"], PureWindowsPath(value["path"] or "").name, folder=folder, index=index)

    def _save(self, content: bytes, name: str, *, folder: str, index: int) -> str:
        suffix = next((suffix for start, suffix in _SUFFIX.items() if content.startswith(start)), ".img")
        relative = Path(folder) / (name if name.strip(".") else f"{index:06d}{suffix}")
        while relative.as_posix().lower() in self.taken:
            relative = relative.with_name(f"{index:06d}-{relative.name}")
        self.taken.add(relative.as_posix().lower())
        path = self.images / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return relative.as_posix()
