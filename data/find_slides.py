"""Slide files in a folder, and the ids they go by."""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from data.errors import InputError
from data.readers.registry import sought_suffixes

IMAGE_TYPE = Tag("ImageType")
SERIES = Tag("SeriesInstanceUID")
# What pydicom raises for bytes that are not DICOM, or no longer.
DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Instance:
    """One file of a DICOM series."""

    series: str
    volume: bool
    """It holds tiles of the slide, at one resolution; otherwise a label, an overview or a thumbnail."""


def find_slides(folder: Path, *, reader: str = "auto") -> list[Path]:
    """Return the slide files below `folder`, sorted by path; a `folder` that is a file is taken alone.

    The files of one DICOM series in one folder are one slide, named by the first that holds tiles of it. Hidden files
    are left out. `reader` decides which suffixes are slides (see `data.readers.registry`).
    Raises InputError where nothing is found.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder; give a folder of slides")
    suffixes = sought_suffixes(reader)
    found: list[Path] = []
    visited: set[Path] = set()
    for current, folders, names in os.walk(folder, followlinks=True):
        here = Path(current)
        # A link back to a parent would make the walk endless.
        visited.add(here.resolve())
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() not in visited]
        files = [here / name for name in names if name[0] != "." and Path(name).suffix.lower() in suffixes]
        found += _one_file_per_series(files)
    if not found:
        raise InputError(
            f"{folder}: no slide files found; expected one of {' '.join(sorted(suffixes))}"
            + ("" if reader == "image" else ", or --reader image for plain images")
        )
    return sorted(found)


def slide_id(path: Path, folder: Path) -> str:
    """Id of the slide at `path`: its path relative to `folder`, with "/" and suffix; the name where they are equal."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _one_file_per_series(files: list[Path]) -> list[Path]:
    """Keep one file of each DICOM series: OpenSlide opens the whole series from any of its files.

    That is the first file with tiles of the slide itself; a label, overview or thumbnail stands for its series only
    where nothing else is left of it, so that the slide is listed with the reason.
    """
    kept = []
    series: dict[str, tuple[bool, Path]] = {}
    for file in sorted(files):
        instance = _read_instance(file) if file.suffix.lower() == ".dcm" else None
        if instance is None:
            kept.append(file)
            continue
        known = series.get(instance.series)
        if known is None or (instance.volume and not known[0]):
            series[instance.series] = (instance.volume, file)
    return kept + [file for _, file in series.values()]


def _read_instance(file: Path) -> _Instance | None:
    """Read the series and the kind of image of a DICOM file; None where it does not tell, which opening explains."""
    try:
        with file.open("rb") as handle:
            # Tags are stored in ascending order, so little more than the first kilobyte is read and parsed.
            dataset = read_partial(
                handle, stop_when=lambda tag, vr, length: tag > SERIES, specific_tags=[IMAGE_TYPE, SERIES]
            )
        series, image_type = _values(dataset, SERIES), _values(dataset, IMAGE_TYPE)
    except DAMAGED:
        # Kept as a slide of its own: opening it later gives the reason.
        return None
    return _Instance(series=series[0], volume="VOLUME" in image_type) if series[0] else None


def _values(dataset: Dataset, tag: BaseTag) -> list[str]:
    """Return the values of a text element; [""] where it is absent.

    Taken from the undecoded element: pydicom warns of every value longer than the standard allows, and some scanners
    write those.
    """
    element = dataset.get_item(tag)
    content = element.value if element is not None else b""
    return content.decode("latin-1").strip("\0 ").split("\\") if isinstance(content, bytes) else [""]
