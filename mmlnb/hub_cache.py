"""Bundles in the hub's cache on this machine; nothing here reaches the network."""

from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError

HUB = "hf:"


@dataclass(frozen=True)
class CachedBundle:
    """Where a bundle lies."""

    folder: Path
    store: Path | None = None
    """The hub's cache of its repository, where it lies in it: the files of the folder are links into this one."""


def repository_and_revision(name: str) -> tuple[str, str | None]:
    """Take OWNER/NAME or OWNER/NAME@REVISION apart.

    Raises:
        InputError: it is neither.
    """
    repository, at, revision = name.partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")) or (at and not revision):
        raise InputError(f"{name}: no repository on the hub; give OWNER/NAME or OWNER/NAME@REVISION")
    return repository, revision or None


def find_cached(name: str) -> CachedBundle:
    """The bundle OWNER/NAME, or OWNER/NAME@REVISION, in the hub's cache.

    Raises:
        InputError: the name is none of a repository, or it was not fetched yet.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository, revision = repository_and_revision(name)
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise InputError(
            f"{HUB}{name}: no such bundle on this machine; fetch it with `mmlnb bundle pull {name} FOLDER` or "
            f"`mmlnb prefetch {repository}`"
        ) from error
    return snapshot(folder)


def snapshot(folder: Path) -> CachedBundle:
    """What lies in the snapshot `folder` of the hub's cache: REPOSITORY/snapshots/COMMIT."""
    return CachedBundle(folder, store=folder.parents[1] / "blobs")
