"""The patches to describe with their pixels, from image files or from inside slides."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.atomic import digest
from data.errors import InputError
from data.image import read_image
from data.manifest import image_path
from vlm_finetune.config import CaptionConfig
from vlm_finetune.slide_patches import read_slide_patches
from vlm_finetune.unseen import Row

if TYPE_CHECKING:
    from vlm_finetune.describer import Describer

_NEIGHBOURS = 64


@dataclass(frozen=True)
class Patch:
    """A patch that was read, or why it could not be."""

    patch_id: str
    image: np.ndarray | None
    """RGB uint8, of the prompt's size."""
    key: str
    error: str | None = None


def own_rows(share: Sequence[Row], process: int, processes: int) -> list[Row]:
    """The rows of one process: every n-th, of slides every n-th stretch of neighbours."""
    images = [row for row in share if row.place is None]
    inside = [row for row in share if row.place is not None]
    stretches = [inside[start : start + _NEIGHBOURS] for start in range(0, len(inside), _NEIGHBOURS)]
    return [*images[process::processes], *chain.from_iterable(stretches[process::processes])]


def read_patches(share: Sequence[Row], config: CaptionConfig, captioner: "Describer") -> Iterator[Patch]:
    """All rows of `share` with their pixels and keys, those that are files first."""
    images = [row for row in share if row.place is None]
    inside = [row for row in share if row.place is not None]
    yield from _from_images(images, config, captioner)
    yield from _from_slides(inside, config, captioner)


def _from_images(share: Sequence[Row], config: CaptionConfig, captioner: "Describer") -> Iterator[Patch]:
    """Patches that are files, in order, read ahead by threads."""

    def read(row: Row) -> Patch:
        assert row.image is not None
        path = image_path(config.manifest, row.image)
        try:
            pixels = read_image(path)
        except InputError as error:
            return _unreadable(row, error, path, captioner)
        # Made smaller here, in threads: there may be many of them in memory.
        return Patch(row.patch_id, captioner.prompt.resize(pixels), captioner.row_key(pixels))

    with ThreadPoolExecutor(2) as pool:
        todo = iter(share)
        ahead: list[Future[Patch]] = [pool.submit(read, row) for row in islice(todo, 2 * captioner.batch_size)]
        while ahead:
            patch = ahead.pop(0).result()
            ahead += [pool.submit(read, row) for row in islice(todo, 1)]
            yield patch


def _from_slides(share: Sequence[Row], config: CaptionConfig, captioner: "Describer") -> Iterator[Patch]:
    """Patches that lie in slides, slide by slide."""
    if not share:
        return
    assert config.slides is not None
    for row, found in read_slide_patches(share, config.slides, mpp=config.mpp, workers=config.workers):
        if isinstance(found, InputError):
            assert row.place is not None
            yield _unreadable(row, found, config.slides / row.place.slide_id, captioner)
        else:
            yield Patch(row.patch_id, captioner.prompt.resize(found), captioner.row_key(found))


def _unreadable(row: Row, error: InputError, path: Path, captioner: "Describer") -> Patch:
    """Without pixels the file's size and time stand for them: a mended file is described at the next run."""
    stat = path.stat() if path.exists() else None
    seen = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "missing"
    return Patch(row.patch_id, None, digest(captioner.key, "unreadable", row.patch_id, seen), str(error))
