"""Names that others wrote, kept inside the folder that they belong to."""

from pathlib import Path

from data.errors import InputError


def is_inside(path: Path, *folders: Path) -> bool:
    """Whether `path` lies in one of `folders` once every link on the way is followed."""
    try:
        real = path.resolve()
    except (ValueError, OSError, RuntimeError):
        # No path at all, or a link that leads to itself: opening it gives the reason.
        return True
    return any(real.is_relative_to(home) for folder in folders for home in _homes(folder))


def child(folder: Path, name: str) -> Path:
    """Path of `name` below `folder`; links are left to whoever laid them there.

    Raises:
        InputError: the name is absolute or climbs out of the folder.
    """
    if ".." in Path(name).parts or Path(name).anchor:
        raise InputError(f"{name}: lies outside {folder}; give a path below it")
    return folder / name


def _homes(folder: Path) -> list[Path]:
    """Where the files of `folder` lie: in it, and for a snapshot in the hub's cache beside it, where its links lead."""
    snapshots = folder.resolve().parent
    return [folder.resolve(), *([snapshots.parent / "blobs"] if snapshots.name == "snapshots" else [])]
