"""Slide files in a folder, and the ids they go by."""

import os
from pathlib import Path

import openslide

from data.errors import InputError

# Every extension of the formats that OpenSlide 4 lists; whether a file opens is decided by opening it.
SLIDE_SUFFIXES = frozenset(
    [".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".ndpis", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu"]
)


def find_slides(folder: Path) -> list[Path]:
    """Return the slide files below `folder`, sorted by path; a `folder` that is a file is taken alone.

    The files of one DICOM series are one slide, named by its first file. Hidden files are left out.
    Raises InputError where nothing is found.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder; give a folder of slides")
    found: list[Path] = []
    visited: set[Path] = set()
    for current, folders, names in os.walk(folder, followlinks=True):
        here = Path(current)
        # A link back to a parent would make the walk endless.
        visited.add(here.resolve())
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() not in visited]
        files = [here / name for name in names if name[0] != "." and Path(name).suffix.lower() in SLIDE_SUFFIXES]
        found += _one_file_per_series(files)
    if not found:
        raise InputError(f"{folder}: no slide files found; expected one of {' '.join(sorted(SLIDE_SUFFIXES))}")
    return sorted(found)


def slide_id(path: Path, folder: Path) -> str:
    """Id of the slide at `path`: its path relative to `folder`, with "/" and suffix; the name where they are equal."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _one_file_per_series(files: list[Path]) -> list[Path]:
    """Keep the first file of each DICOM series: OpenSlide opens the whole series from any of its files."""
    files = sorted(files)
    dicom = [file for file in files if file.suffix.lower() == ".dcm"]
    if len(dicom) < 2:
        return files
    kept = [file for file in files if file.suffix.lower() != ".dcm"]
    series: set[str] = set()
    for file in dicom:
        name = _series(file)
        if name is None or name not in series:
            kept.append(file)
        if name is not None:
            series.add(name)
    return kept


def _series(file: Path) -> str | None:
    try:
        with openslide.OpenSlide(file) as handle:
            return handle.properties.get("dicom.SeriesInstanceUID")
    except openslide.OpenSlideError:
        # Kept as a slide of its own: opening it later gives the reason.
        return None
