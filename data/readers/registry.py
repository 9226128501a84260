"""Readers by name: the file that opens a slide is chosen here and nowhere else."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from data.errors import InputError
from data.readers.slide_file import SlideFile

READERS = {
    "openslide": "data.readers.openslide_file:OpenSlideFile",
    "tiffslide": "data.readers.tiffslide_file:TiffSlideFile",
    "image": "data.readers.image_file:ImageFile",
}
"""`module:class` of each reader; the class fulfils `SlideFile`."""
EXTRA_PACKAGES = {"tiffslide": "tiffslide"}
"""What has to be installed for a reader that does not come with this package."""
IMAGE_SUFFIXES = frozenset([".jpeg", ".jpg", ".png"])
# Every extension of the formats that OpenSlide 4 lists; whether a file opens is decided by opening it.
SLIDE_SUFFIXES = frozenset(
    [".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".ndpis", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu"]
)


def choose_reader(path: Path, name: str) -> str:
    """Name of the reader for `path`: `name`, or for "auto" plain images as images and all else through OpenSlide.

    Raises InputError where there is no reader `name`, or the package it needs is absent.
    """
    if name == "auto":
        return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "openslide"
    if name not in READERS:
        raise InputError(f"--reader {name}: no such reader; give auto or {', '.join(READERS)}")
    _load(name)
    return name


def sought_suffixes(name: str) -> frozenset[str]:
    """Suffixes of the files in a folder that the reader `name` is asked to open.

    Plain images are taken from a folder only by name: beside slides they are labels and thumbnails.
    """
    return IMAGE_SUFFIXES | {".tif", ".tiff"} if name == "image" else SLIDE_SUFFIXES


def open_file(path: Path, reader: str) -> SlideFile:
    """Open `path` with the reader of that name; raises InputError where it cannot be opened."""
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    return _load(reader)(path)


def _load(reader: str) -> Callable[[Path], SlideFile]:
    module, _, name = READERS[reader].partition(":")
    try:
        return cast(Callable[[Path], SlideFile], getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        package = EXTRA_PACKAGES.get(reader)
        if package is None:
            raise
        raise InputError(
            f"--reader {reader}: the package {package} is not installed ({error.name} is missing); "
            f"run `pip install {package}`"
        ) from error
