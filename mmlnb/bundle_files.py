"""The files of a bundle: which there may be, and whether they are those that it was made with."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from data.errors import InputError

INDEX = "bundle.json"
# Weights, settings, tables, texts, and the vocabularies of tokenizers. Neither code nor a pickle is among them.
KINDS = {".safetensors", ".json", ".yaml", ".parquet", ".md", ".txt", ".jinja", ".model"}
TEXTS = {".json", ".yaml", ".md", ".txt", ".jinja"}
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
# A hub adds it to every repository.
NOT_OURS = {".gitattributes"}
# torch.save writes a zip archive, and pickle from protocol 2 on begins with its number.
PICKLED = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04|PK\x05\x06")
REMEDY = "make or fetch the bundle again"


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Every file of a bundle that is being made, but the index: its path with its hash.

    Raises:
        InputError: a file that a bundle may not hold.
    """
    found = {}
    for name, path in sorted(_walk(folder, store=None)):
        _check_kind(path, name)
        found[name] = hash_file(path)
    return found


def check_files(
    folder: Path,
    files: Mapping[str, str],
    *,
    store: Path | None = None,
    hash_of: Callable[[Path], str] = hash_file,
) -> None:
    """Compare the files in `folder` with those that the index lists, path below the folder to hash.

    Args:
        folder: of the bundle.
        files: what the index lists.
        store: the hub's cache of this repository, into which links may lead; elsewhere a link is refused.
        hash_of: how the hashes were made.

    Raises:
        InputError: a file that is missing, changed, added, a link, a pickle or of a kind that a bundle may not hold, or
            a path that leads out of the folder.
    """
    for name in files:
        _check_name(name, folder)
    present = dict(_walk(folder, store=store))
    for name, path in sorted(present.items()):
        _check_kind(path, name)
        if name not in files:
            raise InputError(f"{path}: is not part of the bundle ({INDEX} does not list it); remove it")
    for name, expected in files.items():
        if name not in present:
            raise InputError(f"{folder / name}: missing from the bundle; {REMEDY}")
        if hash_of(present[name]) != expected:
            raise InputError(f"{folder / name}: was changed after the bundle was made; {REMEDY}")


def _check_name(name: str, folder: Path) -> None:
    path = PurePosixPath(name)
    plain = bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not plain or not name.isprintable() or "\\" in name or ":" in name or name == INDEX:
        raise InputError(f"{folder / INDEX}: lists {name!r}, which is no path inside the bundle; {REMEDY}")


def _walk(folder: Path, *, store: Path | None) -> Iterator[tuple[str, Path]]:
    """Path below `folder` and path of every file but the index; whatever is neither file nor folder is refused."""
    for here, folders, names in os.walk(folder, followlinks=False):
        for name in (*folders, *names):
            path = Path(here) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                inside = store is not None and path.resolve().is_relative_to(store.resolve())
                if not inside or name in folders:
                    raise InputError(f"{path}: is a link, which a bundle may not hold; put the file itself there")
            if name in folders:
                continue
            if not path.is_file():
                raise InputError(f"{path}: is no plain file; remove it")
            if relative != INDEX and relative not in NOT_OURS:
                yield relative, path


def _check_kind(path: Path, name: str) -> None:
    """Refuse what may not be in a bundle, by the file's suffix and by its content."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLES:
        raise InputError(f"{path}: a pickle by its suffix, which a bundle may not hold; remove it")
    if suffix not in KINDS:
        raise InputError(f"{path}: a bundle holds no {suffix or 'such'} files; remove it")
    with path.open("rb") as file:
        head = file.read(9)
    # The length that safetensors begin with may by chance be the first bytes of a pickle, but no "{" would follow.
    fitting = {
        ".safetensors": head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8,
        ".parquet": head[:4] == b"PAR1",
    }.get(suffix, not PICKLED.match(head))
    if not fitting and PICKLED.match(head):
        raise InputError(f"{path}: a pickle by its content, which a bundle may not hold; remove it")
    if not fitting:
        raise InputError(f"{path}: is no {suffix.removeprefix('.')} file; {REMEDY}")
    if suffix in TEXTS:
        _check_text(path, suffix)


def _check_text(path: Path, suffix: str) -> None:
    try:
        text = path.read_text(encoding="utf-8")
        if suffix == ".json":
            json.loads(text)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply to be read; {REMEDY}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no {suffix.removeprefix('.')} file in UTF-8; {REMEDY}") from error
