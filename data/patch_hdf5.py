"""HDF5 of patch coordinates and features that TRIDENT and CLAM read, and the import of what they and we write."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from data.atomic import atomic
from data.errors import InputError

# Width and height in level-0 pixels.
Dimensions = tuple[int, int]
# Rows of features checked at a time, so that checking needs no second copy of them all.
ROWS_AT_A_TIME = 4096
# What h5py raises on bytes that are damaged or not HDF5.
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
# Locks where the file system has them: half-written files of other tools are refused, and NFS without locks works.
LOCKING = "best-effort"


@dataclass(frozen=True, eq=False)
class PatchFile:
    """Patches of one slide, with their features where the file has them."""

    coords: np.ndarray
    """Int64 (N, 2): x and y of the top left corner in level-0 pixels."""
    size_px: float
    """Side in level-0 pixels."""
    features: np.ndarray | None
    """Float16 or float32 (N, D)."""
    slide_id: str | None
    """None in files of other tools, which keep a name without folder and suffix."""
    dimensions: Dimensions | None
    """Those of the slide they were cut from."""
    tile_px: int | None
    """Side in pixels at the resolution of the patch."""
    target_mpp: float | None
    """µm per pixel; None in files of other tools, whose magnifications are nominal."""
    encoder: str | None


def write_patches(
    path: Path,
    *,
    slide_id: str,
    dimensions: Dimensions,
    level0_mpp: float,
    target_mpp: float,
    tile_px: int,
    size_px: float,
    coords: np.ndarray,
    features: Iterable[np.ndarray] | None,
    encoder: str,
    level_downsamples: Sequence[float] = (1.0,),
    notice: str = "",
) -> None:
    """Write patches to `path` in the layout of both TRIDENT and CLAM; the file is whole or absent.

    `coords` is integer (N, 2), level-0 pixels of the top left corners; `features` yields float16 or float32 (n, D) in
    the same order, written as they come, so that memory does not grow with the slide. `size_px` is the side in level-0
    pixels, `tile_px` the side at `target_mpp` µm/px, `level_downsamples` those of the slide's pyramid.

    The tools share `patch_size` and mean different things: TRIDENT pixels at `target_magnification`, CLAM pixels of
    `patch_level`. Both hold where they name one resolution, so it is `tile_px` at the level that has the target
    resolution, and the side at level 0 where no level has. A magnification is 10 / mpp. What the tools round is also
    written as it is (`size_px`, `tile_px`, `target_mpp`, `level0_mpp`). `notice` is what readers should know.

    Raises InputError where coordinates lie outside the slide, or features are not finite or not one per coordinate.
    """
    coords = _checked_coords(path, coords, size_px=size_px, dimensions=dimensions)
    level, patch_size, downsample = _patch_level(level_downsamples, tile_px=tile_px, size_px=size_px)
    level_dimensions = tuple(max(1, round(length / downsample)) for length in dimensions)
    # HDF5 keeps UTF-8, and a file name may be any bytes.
    name = PurePosixPath(slide_id).stem.encode(errors="replace").decode()
    # TRIDENT's, then CLAM's, then ours. Both keep their output folder here: "." neither goes stale nor names anyone.
    attributes = {
        "name": name,
        "patch_size": patch_size,
        "patch_size_level0": round(size_px),
        "level0_magnification": 10 / level0_mpp,
        "target_magnification": 10 / level0_mpp / downsample,
        "overlap": 0,
        "savetodir": ".",
        "level0_width": dimensions[0],
        "level0_height": dimensions[1],
        "patch_level": level,
        "downsample": (downsample, downsample),
        "level_dim": level_dimensions,
        "downsampled_level_dim": level_dimensions,
        "save_path": ".",
        "slide_id": np.bytes_(slide_id.encode(errors="surrogateescape")),
        "size_px": float(size_px),
        "tile_px": tile_px,
        "target_mpp": float(target_mpp),
        "level0_mpp": float(level0_mpp),
        "encoder": np.bytes_(encoder.encode()),
        # HDF5 has no text of no length.
        **({"notice": np.bytes_(notice.encode())} if notice else {}),
    }
    with atomic(path) as temporary, h5py.File(temporary, "w", locking=LOCKING) as file:
        file.create_dataset("coords", data=coords).attrs.update(attributes)
        if features is not None:
            _write_features(file, features, count=len(coords), path=path)
            file["features"].attrs.update({"name": name, "savetodir": ".", "encoder": encoder, "notice": notice})


def read_patches(
    path: Path, *, size_px: float | None = None, dimensions: Dimensions | None = None, with_features: bool = True
) -> PatchFile:
    """Read the patches in `path`, written by TRIDENT, CLAM or `write_patches`, with or without a batch axis.

    `size_px` is the side in level-0 pixels for files that do not state it (features of CLAM); `dimensions` the level-0
    (width, height) of the slide they are to be used on. Features stay unread where `with_features` is False.

    Raises InputError where the file is damaged, incomplete or senseless, or contradicts `size_px` or `dimensions`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    try:
        with h5py.File(path, "r", locking=LOCKING) as file:
            dataset = _dataset(file, "coords", kinds="iuf", path=path)
            # Texts of variable length are left alone: where the file is damaged they may claim gigabytes.
            plain = [name for name in dataset.attrs if dataset.attrs.get_id(name).dtype.kind in "iufS"]
            attributes = {name: dataset.attrs[name] for name in plain}
            coords = dataset[...].reshape(dataset.shape[-2:])
            features = None
            if with_features and "features" in file:
                features = _read_features(_dataset(file, "features", kinds="f", path=path), path=path)
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as HDF5, truncated or damaged ({reason}); write it again") from error
    size = _size(path, attributes, given=size_px)
    width, height = _number(attributes, "level0_width"), _number(attributes, "level0_height")
    stated = None if width is None or height is None else (round(width), round(height))
    if dimensions is not None and stated not in (None, dimensions):
        raise InputError(f"{path}: cut from a slide of {stated} px, expected {dimensions}; give the file of this slide")
    coords = _checked_coords(path, coords, size_px=size, dimensions=dimensions or stated)
    if features is not None and len(features) != len(coords):
        raise InputError(f"{path}: {len(coords)} patches but {len(features)} features; write the file again")
    tile_px = _number(attributes, "tile_px") or _number(attributes, "patch_size") or 0
    return PatchFile(
        coords=coords,
        size_px=size,
        features=features,
        slide_id=_text(attributes, "slide_id"),
        dimensions=stated,
        tile_px=round(tile_px) or None,
        target_mpp=_number(attributes, "target_mpp"),
        encoder=_text(attributes, "encoder"),
    )


def find_patch_file(folder: Path, slide_id: str) -> Path | None:
    """Return the patch file of the slide in `folder`, or None.

    It is named by the slide, with or without suffix, as `NAME.h5` or `NAME_patches.h5`, and lies under the slide's
    relative path or directly in `folder`. Raises InputError where two files fit.
    """
    relative = PurePosixPath(slide_id)
    names = dict.fromkeys((relative.name, relative.stem, relative.stem.removesuffix(".ome")))
    folders = dict.fromkeys((folder / relative.parent, folder))
    found = [
        file
        for parent in folders
        for name in names
        for ending in (".h5", "_patches.h5")
        if (file := parent / f"{name}{ending}").is_file()
    ]
    if len(found) > 1:
        raise InputError(f"{slide_id}: both {found[0]} and {found[1]} fit this slide; keep one of them")
    return found[0] if found else None


def _patch_level(downsamples: Sequence[float], *, tile_px: int, size_px: float) -> tuple[int, int, float]:
    """Return (level, patch size in its pixels, its downsample) that describe the patch to both tools."""
    for level, downsample in enumerate(downsamples):
        if abs(tile_px * downsample - size_px) < 1:
            return level, tile_px, float(downsample)
    return 0, round(size_px), 1.0


def _write_features(file: h5py.File, features: Iterable[np.ndarray], *, count: int, path: Path) -> None:
    dataset = None
    done = 0
    for batch in features:
        if batch.ndim != 2 or batch.dtype not in (np.float16, np.float32):
            raise InputError(f"{path}: features are {batch.dtype} {batch.shape}, expected float16 or float32 (n, D)")
        if dataset is None:
            dataset = file.create_dataset("features", shape=(count, batch.shape[1]), dtype=batch.dtype)
        if batch.shape[1] != dataset.shape[1] or batch.dtype != dataset.dtype:
            raise InputError(f"{path}: features change their length or type at row {done}; expected one encoder")
        _check_finite(path, batch, first=done)
        # Rows beyond the coordinates are counted, not written: the count is refused below.
        dataset[done : done + len(batch)] = batch[: max(0, count - done)]
        done += len(batch)
    if done != count:
        raise InputError(f"{path}: {count} coordinates but {done} features; expected one per patch")
    if dataset is None:
        file.create_dataset("features", shape=(0, 0), dtype=np.float32)


def _dataset(file: h5py.File, name: str, *, kinds: str, path: Path) -> h5py.Dataset:
    """Return a dataset (N, D) or (1, N, D) of numbers of NumPy's `kinds` that is there in full."""
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        found = ", ".join(sorted(file)) or "nothing"
        raise InputError(f"{path}: no dataset {name!r}, found {found}; give a patch file of TRIDENT or CLAM")
    elsewhere = isinstance(file.get(name, getlink=True), h5py.ExternalLink) or dataset.is_virtual or dataset.external
    if elsewhere:
        raise InputError(f"{path}: {name} lie in another file, which is not read; write them into this one")
    shape: tuple[int, ...] = dataset.shape or ()
    if dataset.dtype.kind not in kinds or not (len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)):
        raise InputError(
            f"{path}: {name} are {dataset.dtype} {shape}, expected a row per patch; give a file of patches"
        )
    stored = dataset.id.get_storage_size()
    complete = stored >= dataset.nbytes
    if dataset.chunks is not None:
        chunks = (math.ceil(length / chunk) for length, chunk in zip(shape, dataset.chunks, strict=True))
        complete = dataset.id.get_num_chunks() >= math.prod(chunks)
    # Rows never written read as zeros, and a damaged size would ask for more memory than there is.
    if not complete or stored > path.stat().st_size:
        raise InputError(f"{path}: {name} state {shape} values but hold fewer; write the file again")
    return dataset


def _read_features(dataset: h5py.Dataset, *, path: Path) -> np.ndarray:
    """Return float16 or float32 (N, D), finite."""
    features = np.empty(dataset.shape[-2:], dtype=np.float16 if dataset.dtype.itemsize == 2 else np.float32)
    for start in range(0, len(features), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        with np.errstate(over="ignore"):
            features[rows] = dataset[rows] if dataset.ndim == 2 else dataset[0, rows]
        _check_finite(path, features[rows], first=start)
    return features


def _check_finite(path: Path, features: np.ndarray, *, first: int) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        row = first + int(finite.argmin())
        raise InputError(f"{path}: features are not finite at row {row}; encode the slide again, in float32 if needed")


def _checked_coords(path: Path, coords: np.ndarray, *, size_px: float, dimensions: Dimensions | None) -> np.ndarray:
    """Return `coords` as int64 (N, 2), each patch of which touches the slide."""
    if not (math.isfinite(size_px) and size_px > 0):
        raise InputError(f"{path}: patches of {size_px} level-0 pixels, expected a length above 0")
    if coords.ndim != 2 or coords.shape[1] != 2 or coords.dtype.kind not in "iuf":
        raise InputError(f"{path}: coordinates are {coords.dtype} {coords.shape}, expected whole numbers (N, 2)")
    # Compared before the cast, which would wrap what does not fit.
    farthest = np.asarray(dimensions or (2**31, 2**31))
    inside = ((coords > -size_px) & (coords < farthest) & (coords == np.floor(coords))).all(axis=1)
    if not inside.all():
        row = int(inside.argmin())
        raise InputError(
            f"{path}: coordinates {coords[row].tolist()} at row {row}, expected whole level-0 pixels inside "
            f"{'the slide' if dimensions is None else dimensions}; give the file of this slide"
        )
    return coords.astype(np.int64)


def _size(path: Path, attributes: Mapping[str, Any], *, given: float | None) -> float:
    stated = _stated_size(attributes)
    if given is not None and stated is not None and abs(given - stated) > 1:
        raise InputError(f"{path}: patches of {stated:g} level-0 pixels, but {given:g} was given; leave the size out")
    size = given if stated is None else stated
    if size is None:
        raise InputError(f"{path}: patches of unknown size; give it in level-0 pixels, or give the coordinates file")
    return size


def _stated_size(attributes: Mapping[str, Any]) -> float | None:
    """Side in level-0 pixels by the most exact statement: ours, TRIDENT's, CLAM's."""
    stated = _number(attributes, "size_px") or _number(attributes, "patch_size_level0")
    patch_size = _number(attributes, "patch_size")
    # Tools disagree on which side of a custom downsample patch_size stands.
    if stated or not patch_size or _number(attributes, "custom_downsample") not in (None, 1.0):
        return stated
    downsample = _number(attributes, "downsample")
    if downsample is None and "patch_level" in attributes and np.all(attributes["patch_level"] == 0):
        downsample = 1.0
    return None if downsample is None else patch_size * downsample


def _number(attributes: Mapping[str, Any], name: str) -> float | None:
    """Return the (first) number of an attribute; None where it is absent, not a number, or not above 0."""
    value = np.asarray(attributes.get(name)).ravel()
    number = float(value[0]) if value.dtype.kind in "iuf" and value.size else math.nan
    return number if math.isfinite(number) and number > 0 else None


def _text(attributes: Mapping[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    return value.decode(errors="surrogateescape") or None if isinstance(value, bytes) else None
